"""Earlier name of `edgecar.runtime.cameras`."""

from edgecar.runtime.cameras import (
    NULL as NULL,
)
from edgecar.runtime.cameras import (
    Job as Job,
)
from edgecar.runtime.cameras import (
    Progress as Progress,
)
from edgecar.runtime.cameras import (
    Report as Report,
)
