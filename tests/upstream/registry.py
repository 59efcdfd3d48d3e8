"""All scenarios, and which of them are recorded."""

from tests.upstream.scenarios import GOLDEN as SOFT_GOLDEN
from tests.upstream.scenarios import SCENARIOS as SOFT
from tests.upstream.scenarios_others import OTHERS, OTHERS_GOLDEN

SCENARIOS = SOFT | OTHERS
GOLDEN = (*SOFT_GOLDEN, *OTHERS_GOLDEN)
