"""Tables fit a terminal, and lose no column."""

from prettytable import PrettyTable

from paif_mm.tables import WIDTH, fitted


def table(columns: int, width: int = 8) -> PrettyTable:
    made = PrettyTable(['test', *(f'{i:0{width}d}' for i in range(columns))])
    made.add_row(['clean', *(f'c{i}' for i in range(columns))])
    made.add_row(['pgd5_eps4', *(f'a{i}' for i in range(columns))])
    return made


def test_what_fits_stays_whole():
    assert fitted(table(9)) == table(9).get_string()  # 1 + 12 + 9 * 11 = 112
    assert fitted(table(30), wide=True) == table(30).get_string()


def test_wide_tables_come_in_parts_that_name_their_rows():
    lines = fitted(table(30)).splitlines()
    assert max(map(len, lines)) == 112 <= WIDTH
    assert sum('pgd5_eps4' in line for line in lines) == 4
    cells = [cell.strip() for line in lines for cell in line.split('|')]
    assert [cell for cell in cells if cell.startswith('a')] == [f'a{i}' for i in range(30)]
    assert [cell for cell in cells if cell.isdigit()] == [f'{i:08d}' for i in range(30)]


def test_the_last_column_that_fits_is_taken():
    exactly = table(8, width=6).get_string().partition('\n')[0]
    made = PrettyTable(['a', 'b' * (WIDTH - 1 - 4 - 3), 'c'])
    made.add_row([1, 2, 3])
    assert len(exactly) < WIDTH
    assert [len(part) for part in fitted(made).splitlines()[::5]] == [WIDTH, 9]


def test_a_column_that_is_too_wide_by_itself_is_shown_all_the_same():
    made = PrettyTable(['a', 'b' * 150, 'c'])
    made.add_row([1, 2, 3])
    assert 'b' * 150 in fitted(made)
    assert len(fitted(made).splitlines()) == 10
