"""Package description; requirements live in ``requirements/``, as in OpenMMLab's own projects."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


class BuildWithConfigs(build_py):
    """Puts configs and tools into ``paif_mm/.mim``, as OpenMMLab's wheels have them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for folder in ('configs', 'tools'):
                target = Path(self.build_lib) / 'paif_mm' / '.mim' / folder
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns('__pycache__'))


version = re.search(r"__version__ = '(.+)'", (ROOT / 'paif_mm' / 'version.py').read_text())[1]

setup(
    name='paif_mm',
    version=version,
    description='Attack-tolerant perception on fused infrared-visible pairs, as a plugin for OpenMMLab 2.x',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['paif_mm', 'paif_mm.*']),
    package_data={'paif_mm.zoo': ['*.yml', '*.pth']},
    entry_points={'console_scripts': ['paif = paif_mm.command:main']},
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.10',
    classifiers=[f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12)],
    # OpenMMLab is left to extras on purpose: mmcv and mmcv-lite, mmengine and onedl-mmengine and so on install the same
    # files, and pip would put one over the other.
    install_requires=requirements('runtime'),
    extras_require={
        'mminstall': requirements('mminstall'),
        'openmmlab': requirements('openmmlab'),
        'onedl': requirements('onedl'),
        'demo': requirements('demo'),
        'export': requirements('export'),
        'screens': requirements('screens'),
        'tests': requirements('tests'),
        'weights': requirements('weights'),
    },
)
