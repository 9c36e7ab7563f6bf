"""For those who write stores, and for tests of what happens when one fails.

Subclass `StoreContract` to prove a store; wrap one in a `FaultyStore` to have it fail on demand.
Nothing here imports a test runner.
"""

from actorq.testing.faults import FaultyStore as FaultyStore
from actorq.testing.store_contract import StoreContract as StoreContract
