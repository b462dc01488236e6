"""Tables of the console, of a width that terminals have."""

from prettytable import PrettyTable

WIDTH = 120  # columns


def fitted(table: PrettyTable, wide: bool = False) -> str:
    """A table as text: whole where it fits or is to be ``wide``, else in parts that begin with its first column.

    Every column is in one of the parts, and no part is wider than :data:`WIDTH`, unless one column alone is.
    """
    first, *names = table.field_names
    widths = {name: len(table.get_string(fields=[name]).partition('\n')[0]) - 1 for name in table.field_names}
    if wide or sum(widths.values()) + 1 <= WIDTH:
        return table.get_string()
    parts, left = [], 0
    for name in names:
        left -= widths[name]
        if left < 0:
            parts.append([first])
            left = WIDTH - 1 - widths[first] - widths[name]
        parts[-1].append(name)
    return '\n'.join(table.get_string(fields=part) for part in parts)
