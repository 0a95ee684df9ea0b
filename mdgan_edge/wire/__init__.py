"""Bytes between processes: codec, parts, sockets, keys. The only place that imports zmq."""
