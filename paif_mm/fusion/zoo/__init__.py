"""Published fusion networks, one file each, to compare with or to use: ``fusion=dict(type='SeAFusion')``.

Each is as its authors published it. Where the port that the PAIF paper compares with differs, that is
``variant='paif'``. Weights of the authors are read by ``tools/model_converters/fusion_zoo.py``; see
``docs/compared_networks.md``.
"""

from .densefuse import DenseFuse
from .didfuse import DIDFuse
from .ifcnn import IFCNN
from .reconet import ReCoNet
from .sage import SAGE
from .sdnet import SDNet
from .seafusion import SeAFusion
from .tardal import TarDAL
from .u2fusion import U2Fusion
from .umfusion import UMFusion

#: Name -> class, those of the PAIF paper first, in its order of years.
NETWORKS = {
    network.__name__: network
    for network in (U2Fusion, DIDFuse, SDNet, SeAFusion, ReCoNet, UMFusion, TarDAL, DenseFuse, IFCNN, SAGE)
}

__all__ = ['NETWORKS', *NETWORKS]
