"""Many models in one table, most left first: ``python tools/leaderboard.py REPORT REPORT ... --out DIR``."""

import argparse
from pathlib import Path

from prettytable import PrettyTable

from paif_mm.arguments import Parser, output_folder
from paif_mm.files import write_bytes
from paif_mm.mistakes import reports_mistakes
from paif_mm.robustness.leaderboard import draw, leaderboard
from paif_mm.robustness.pages import markdown, page, read_report, report_names
from paif_mm.tables import fitted

TITLE = 'Robustness leaderboard'


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Rank models by their reports of tools/robustness.py')
    parser.add_argument('reports', nargs='+', help='folders or report.json files, made with the same settings')
    parser.add_argument('--names', nargs='+', help="the models' names (default: the reports' folders)")
    parser.add_argument('--out', default='work_dirs/leaderboard', help='folder for leaderboard.{html,md}')
    parser.add_wide()
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    found = [read_report(path) for path in args.reports]
    reports = dict(zip(report_names(args.reports, args.names), found, strict=True))
    output_folder(args.out, '--out')
    parts = leaderboard(reports)
    table = PrettyTable(parts[0].head, align='l')
    table.add_rows(parts[0].rows)
    print(f'{parts[0].text}\n{fitted(table, args.wide)}\n{parts[-1].text}')
    out = Path(args.out)
    write_bytes(out / 'leaderboard.html', page(TITLE, parts, {'picture': draw(reports)}).encode())
    write_bytes(out / 'leaderboard.md', markdown(TITLE, [parts[0], parts[-1]]).encode())
    print(f'\nleaderboard written to {out / "leaderboard.html"} (also .md)')


if __name__ == '__main__':
    main()
