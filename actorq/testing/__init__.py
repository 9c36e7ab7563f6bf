"""For those who write stores and transports, and for tests of what happens when one fails.

Subclass `StoreContract` or `TransportContract` to prove one; wrap a store in a `FaultyStore` to
have it fail on demand.
Nothing here imports a test runner.
"""

from actorq.testing.faults import FaultyStore as FaultyStore
from actorq.testing.store_contract import StoreContract as StoreContract
from actorq.testing.transport_contract import TransportContract as TransportContract
