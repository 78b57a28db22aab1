"""Which tiles hang together, and by which pairs alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components


def find_groups(n: int, pairs: NDArray[np.int64], used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Tell which tiles pairs join into groups.

    Parameters
    ----------
    n : int
        Number of tiles.
    pairs : int ndarray (m, 2)
    used : bool ndarray (m,)
        Pairs that count as joined.

    Returns
    -------
    int64 ndarray (n,)
        The group of each tile, numbered by the first tile.
    """
    chosen = pairs[used]
    graph = sparse.coo_matrix((np.ones(len(chosen)), (chosen[:, 0], chosen[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def find_bridges(n: int, pairs: NDArray[np.int64], used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pairs that alone join two parts of the mosaic (Tarjan 1974, without recursion).

    Parameters
    ----------
    n : int
        Number of tiles.
    pairs : int ndarray (m, 2)
    used : bool ndarray (m,)
        Pairs that count as joined.
    """
    edges: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for number in np.flatnonzero(used):
        i, j = int(pairs[number, 0]), int(pairs[number, 1])
        edges[i].append((j, int(number)))
        edges[j].append((i, int(number)))
    bridge = np.zeros(len(pairs), bool)
    order: list[int] = [-1] * n
    low: list[int] = [0] * n
    clock = 0
    for root in range(n):
        if order[root] >= 0:
            continue
        order[root] = low[root] = clock
        clock += 1
        stack = [(root, -1, iter(edges[root]))]
        while stack:
            node, via, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                stack.pop()
                if stack:
                    parent = stack[-1][0]
                    low[parent] = min(low[parent], low[node])
                    if low[node] > order[parent]:
                        bridge[via] = True
                continue
            other, p = step
            if p == via:
                continue
            if order[other] >= 0:
                low[node] = min(low[node], order[other])
            else:
                order[other] = low[other] = clock
                clock += 1
                stack.append((other, p, iter(edges[other])))
    return bridge
