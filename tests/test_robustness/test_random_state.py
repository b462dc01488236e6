"""An evaluation leaves the global random generators as it found them."""

from helpers import generators_untouched
from test_robustness.benches import bench, untrained

from paif_mm.robustness.cases import make_suite
from paif_mm.robustness.evaluate import evaluate
from paif_mm.robustness.masking import diagnose
from paif_mm.robustness.records import Records


def test_suites_and_diagnostics_leave_the_global_generators_alone(tmp_path):
    it = bench(untrained())
    cases = make_suite('strong', 'mIoU', (8 / 255,), steps=3)
    records = Records(tmp_path, {})
    with generators_untouched():
        evaluate(it, cases, records, progress=False)
        diagnose(it, cases, records, [0], 8 / 255, steps=3, queries=3, progress=False)
