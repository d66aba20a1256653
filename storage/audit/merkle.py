"""The Merkle tree over the ledger, after RFC 9162 §2.1 (the tree of RFC 6962, with SHA-256).

Leaf *i* (from 0) is the record with sequence number *i* + 1; its data are the 32 bytes of that record's hash. A
*subtree* is complete and aligned: (level, position) covers the leaves position·2^level to (position + 1)·2^level - 1.
Whoever asks for a path hands in `Subtrees`, a function that knows the hash of every complete subtree; where they come
from (a list, stored nodes, a sealed segment) is not this module's matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

Subtrees = Callable[[int, int], bytes]
EMPTY_ROOT = sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf (RFC 9162 §2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node; its prefix keeps a node from passing for a leaf."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A tree that only grows: the roots of its complete subtrees, largest first, one for each bit of `size`."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def add(self, leaf: bytes, completed: Callable[[int, int, bytes], None] | None = None) -> None:
        """Append a leaf's hash; `completed` hears of each subtree of level 1 and up that it completes."""
        level, node, size = 0, leaf, self.size
        peaks = self.peaks
        while size >> level & 1:
            node = sha256(b"\x01" + peaks.pop() + node).digest()
            level += 1
            if completed is not None:
                completed(level, size >> level, node)
        peaks.append(node)
        self.size = size + 1

    def root(self) -> bytes:
        """The tree's root at this size."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def copy(self) -> "Frontier":
        return Frontier(self.size, list(self.peaks))


def subtrees_of(size: int) -> list[tuple[int, int]]:
    """(level, position) of the complete subtrees that a tree of `size` leaves is made of, largest first."""
    found, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            found.append((level, start >> level))
            start += 1 << level
    return found


def range_root(subtrees: Subtrees, start: int, end: int) -> bytes:
    """MTH(D[start:end]) of RFC 9162 §2.1.1, where `start` is where the RFC's own recursion would cut."""
    size = end - start
    if size == 0:
        return EMPTY_ROOT
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtrees(level, start >> level)
    cut = start + _largest_power_below(size)
    return node_hash(range_root(subtrees, start, cut), range_root(subtrees, cut, end))


def inclusion_path(subtrees: Subtrees, index: int, size: int) -> list[bytes]:
    """PATH(index, D_size) of RFC 9162 §2.1.3.1, lowest sibling first. Raises IndexError for a leaf that it has not."""
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        cut = start + _largest_power_below(end - start)
        if index < cut:
            path.append(range_root(subtrees, cut, end))
            end = cut
        else:
            path.append(range_root(subtrees, start, cut))
            start = cut
    return path[::-1]


def consistency_path(subtrees: Subtrees, old: int, new: int) -> list[bytes]:
    """PROOF(old, D_new) of RFC 9162 §2.1.4.1; empty for equal sizes. Raises IndexError unless 0 < old ≤ new."""
    if not 0 < old <= new:
        raise IndexError(f"a tree of {new} leaves never had {old}, or that needs no proof")
    path: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        cut = start + _largest_power_below(end - start)
        if old <= cut:
            path.append(range_root(subtrees, cut, end))
            end = cut
        else:
            path.append(range_root(subtrees, start, cut))
            start, whole = cut, False
    if not whole:
        path.append(range_root(subtrees, start, end))
    return path[::-1]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion path leads to (RFC 9162 §2.1.3.2); None when the path has another length."""
    if not 0 <= index < size:
        return None
    node, first, last = leaf, index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if first & 1 or first == last:
            node = node_hash(sibling, node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        first, last = first >> 1, last >> 1
    return node if last == 0 else None


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path proves that `leaf` is the leaf `index` of the tree with this size and root."""
    return root_from_path(leaf, index, size, path) == root


def consistent(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the path proves that the tree (`old`, `old_root`) is the beginning of the other (RFC 9162 §2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    nodes = list(path) if old & (old - 1) else [old_root, *path]
    if not nodes:
        return False
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_node = new_node = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_node, new_node = node_hash(sibling, old_node), node_hash(sibling, new_node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_node = node_hash(new_node, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_node == old_root and new_node == new_root


def _largest_power_below(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1
