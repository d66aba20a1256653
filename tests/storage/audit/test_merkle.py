"""The tree is RFC 9162's: its published roots and its example's paths come out, and no other proof passes."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    Subtrees,
    consistency_path,
    consistent,
    includes,
    inclusion_path,
    leaf_hash,
    node_hash,
    range_root,
    subtrees_of,
)

# The leaves and roots that the reference implementation of Certificate Transparency (RFC 6962) tests itself with.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
sizes = st.integers(1, 70)


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def of(leaves: list[bytes]) -> Subtrees:
    """Every complete subtree of a list of leaf hashes, by the definition."""

    def subtree(level: int, position: int) -> bytes:
        if level == 0:
            return leaves[position]
        return node_hash(subtree(level - 1, 2 * position), subtree(level - 1, 2 * position + 1))

    return subtree


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1 word by word."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    cut = 1
    while cut * 2 < len(leaves):
        cut *= 2
    return node_hash(root_by_definition(leaves[:cut]), root_by_definition(leaves[cut:]))


def test_the_published_roots_come_out() -> None:
    tree = Frontier()
    assert (
        tree.root() == EMPTY_ROOT == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.add(leaf_hash(bytes.fromhex(leaf)))
        assert tree.root().hex() == root


def test_the_paths_of_the_rfc_example_come_out() -> None:
    """RFC 9162 §2.1.5: the tree of seven leaves, its nodes named as there."""
    a, b, c, d, e, f, j = leaves(7)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, l = node_hash(g, h), node_hash(i, j)  # noqa: E741 - the RFC's letters
    tree = of([a, b, c, d, e, f, j])
    assert range_root(tree, 0, 7) == node_hash(k, l)
    assert inclusion_path(tree, 0, 7) == [b, h, l]
    assert inclusion_path(tree, 3, 7) == [c, g, l]
    assert inclusion_path(tree, 4, 7) == [f, j, k]
    assert inclusion_path(tree, 6, 7) == [i, k]
    assert consistency_path(tree, 3, 7) == [c, d, g, l]
    assert consistency_path(tree, 4, 7) == [l]
    assert consistency_path(tree, 6, 7) == [i, j, k]


@settings(deadline=None)
@given(st.integers(0, 200))
def test_a_frontier_is_the_tree_and_tells_of_every_complete_subtree(size: int) -> None:
    made = leaves(size)
    heard: dict[tuple[int, int], bytes] = {}
    tree = Frontier()
    for leaf in made:
        tree.add(leaf, lambda level, position, node: heard.__setitem__((level, position), node))
    assert tree.root() == root_by_definition(made)
    assert tree.peaks == [of(made)(*place) for place in subtrees_of(size)]
    complete = {(level, position) for level in range(1, 9) for position in range(size >> level)}
    assert heard.keys() == complete
    assert all(node == of(made)(*place) for place, node in heard.items())


@settings(deadline=None)
@given(sizes, st.data())
def test_every_leaf_has_a_path_and_no_other_leaf_place_or_tree_has_it(size: int, data: st.DataObject) -> None:
    made = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    path, root = inclusion_path(of(made), index, size), root_by_definition(made)
    assert includes(made[index], index, size, path, root)
    assert not includes(leaf_hash(b"forged"), index, size, path, root)
    assert not includes(made[index], index, size, [*path, root], root)
    assert not includes(made[index], index, size, path, leaf_hash(b"other root"))
    other = data.draw(st.integers(-1, size + 3).filter(lambda number: number != index))
    assert not includes(made[index], other, size, path, root)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert not includes(made[index], index, size, path[:place] + path[place + 1 :], root)
        bent = list(path)
        bent[place] = leaf_hash(b"bent")
        assert not includes(made[index], index, size, bent, root)


@settings(deadline=None)
@given(sizes, sizes, st.data())
def test_growth_has_a_proof_and_a_rewritten_past_has_none(one: int, other: int, data: st.DataObject) -> None:
    old, new = sorted((one, other))
    made = leaves(new)
    path = consistency_path(of(made), old, new)
    old_root, new_root = root_by_definition(made[:old]), root_by_definition(made)
    assert consistent(old, new, old_root, new_root, path)
    rewritten = list(made)
    rewritten[data.draw(st.integers(0, old - 1))] = leaf_hash(b"forged")
    forged = root_by_definition(rewritten)
    assert not consistent(old, new, old_root, forged, consistency_path(of(rewritten), old, new))
    assert not consistent(old, new, old_root, forged, path)
    if path:
        assert not consistent(old, new, old_root, new_root, path[:-1])
        assert not consistent(old, new, old_root, new_root, [*path, path[-1]])


def test_what_is_not_there_has_no_proof() -> None:
    with pytest.raises(IndexError):
        inclusion_path(of([]), 0, 0)
    with pytest.raises(IndexError):
        consistency_path(of(leaves(2)), 3, 2)
    assert not consistent(0, 2, EMPTY_ROOT, root_by_definition(leaves(2)), [])
