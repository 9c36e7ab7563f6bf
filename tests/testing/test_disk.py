from random import Random

import pytest
import trio

from actorq.codec import records as codec
from actorq.errors import Fenced, StoreUnavailable
from actorq.testing import StoreContract
from actorq.testing.disk import Disk, DiskStore
from actorq.testing.samples import own
