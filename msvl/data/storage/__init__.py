"""Files here and elsewhere: `open_location` gives a `Location`, whatever the scheme."""

from msvl.data.storage.errors import StorageError
from msvl.data.storage.location import Location, open_location
from msvl.data.storage.store import ObjectInfo, RemoteConfig, StorageCounts

__all__ = ["Location", "ObjectInfo", "RemoteConfig", "StorageCounts", "StorageError", "open_location"]
