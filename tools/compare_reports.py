"""Several models in one table and plot: ``python tools/compare_reports.py REPORT REPORT ... --out DIR``."""

import argparse
from pathlib import Path

from prettytable import PrettyTable

from paif_mm.arguments import Parser, output_folder
from paif_mm.files import write_bytes
from paif_mm.mistakes import reports_mistakes
from paif_mm.robustness.comparison import compare
from paif_mm.robustness.curves import draw_comparison
from paif_mm.robustness.pages import csv_of, folder_of, markdown, page, read_report, report_names
from paif_mm.robustness.records import read_records
from paif_mm.tables import fitted

TITLE = 'Robustness compared'


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Compare reports of tools/robustness.py')
    parser.add_argument('reports', nargs='+', help='folders or report.json files; the first one is the reference')
    parser.add_argument('--names', nargs='+', help="the models' names (default: the reports' folders)")
    parser.add_argument('--out', default='work_dirs/comparison', help='folder for comparison.{html,md,csv}')
    parser.add_wide()
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    found = [read_report(path) for path in args.reports]
    reports = dict(zip(report_names(args.reports, args.names), found, strict=True))
    output_folder(args.out, '--out')
    records = [read_records(folder_of(path)) for path in args.reports]
    parts = compare(reports, dict(zip(reports, records, strict=True)))
    for part in parts:
        print(f'\n{part.title}: {part.text}')
        if part.rows:
            table = PrettyTable(part.head, align='l')
            table.add_rows(part.rows)
            print(fitted(table, args.wide))
    out = Path(args.out)
    drawn = {'comparison': draw_comparison(reports)}
    write_bytes(out / 'comparison.html', page(TITLE, parts, drawn).encode())
    write_bytes(out / 'comparison.md', markdown(TITLE, parts).encode())
    write_bytes(out / 'comparison.csv', csv_of(reports).encode())
    print(f'\ncomparison written to {out / "comparison.html"} (also .md, .csv)')


if __name__ == '__main__':
    main()
