"""The objective's gradients from observed ratings alone, for the CPU.

A dense step multiplies B x n matrices that are mostly missing entries: at MovieLens-1M's density
of 4 %, 24 of 25 products are with nothing. Here every product belongs to a rating, so an epoch
costs O(ratings x k) and computes the same loss and gradients (AutoRec.gradients), up to the
order of float32 sums.

Why Numba: TensorFlow's sparse ops do not reach this. `sparse_dense_matmul` runs on one thread,
and gather-and-reduce writes every gathered row to memory first. Numba installs with pip, needs
no compiler, and its kernels release the interpreter lock, so plain threads share the work. Each
result row is made by one thread in a fixed order: the threads' number changes no bit.

Called through `tf.numpy_function`: inputs are TensorFlow's own buffers and are never written to.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

BLOCK = 64  # ratings of a row whose decoder weights stay in cache between their two uses
COLUMN_COST = 4  # what a column costs before its first rating, in ratings: for even shares

compiled = numba.njit(
    nogil=True,
    cache=os.access(os.path.dirname(os.path.abspath(__file__)), os.W_OK),
    fastmath={"reassoc", "contract", "nsz"},  # sums may be vectorised; NaN stays NaN
    error_model="numpy",
)


@compiled
def add_rows(out, weights, index, X):
    """out (k) += sum_e weights[e] X[index[e]], four rows at a time to spare loads of `out`."""
    e = 0
    while e + 4 <= len(index):
        x0, x1, x2, x3 = X[index[e]], X[index[e + 1]], X[index[e + 2]], X[index[e + 3]]
        w0, w1, w2, w3 = weights[e], weights[e + 1], weights[e + 2], weights[e + 3]
        for j in range(len(out)):
            out[j] += w0 * x0[j] + w1 * x1[j] + w2 * x2[j] + w3 * x3[j]
        e += 4
    while e < len(index):
        x0, w0 = X[index[e]], weights[e]
        for j in range(len(out)):
            out[j] += w0 * x0[j]
        e += 1


@compiled
def dot_rows(out, h, index, X):
    """out[e] = h . X[index[e]], four at a time to spare loads of `h`."""
    zero = np.float32(0)
    e = 0
    while e + 4 <= len(index):
        x0, x1, x2, x3 = X[index[e]], X[index[e + 1]], X[index[e + 2]], X[index[e + 3]]
        s0, s1, s2, s3 = zero, zero, zero, zero
        for j in range(len(h)):
            s0 += h[j] * x0[j]
            s1 += h[j] * x1[j]
            s2 += h[j] * x2[j]
            s3 += h[j] * x3[j]
        out[e], out[e + 1], out[e + 2], out[e + 3] = s0, s1, s2, s3
        e += 4
    while e < len(index):
        x0, s0 = X[index[e]], zero
        for j in range(len(h)):
            s0 += h[j] * x0[j]
        out[e] = s0
        e += 1


@compiled
def encode(first, last, indptr, indices, values, rows, V, mu, z):
    """z (B, k) = R V + mu for the batch's rows first..last-1."""
    for i in range(first, last):
        start, end = indptr[rows[i]], indptr[rows[i] + 1]
        z[i] = mu
        add_rows(z[i], values[start:end], indices[start:end], V)


@compiled
def decode_and_back(first, last, indptr, indices, values, rows, Wt, b, h, starts, d, dz, sse):
    """For rows first..last-1 of the batch: d (e) = dJ / d prediction, sse (B) the squared error,
    and dz (B, k) = dJ / d z, back through the decoder and the sigmoid."""
    for i in range(first, last):
        start, end = indptr[rows[i]], indptr[rows[i] + 1]
        columns, ratings = indices[start:end], values[start:end]
        d_row, h_row, dh = d[starts[i] : starts[i + 1]], h[i], dz[i]
        squared_error = 0.0
        dh[:] = 0
        for begin in range(0, len(columns), BLOCK):
            block = columns[begin : begin + BLOCK]
            d_block = d_row[begin : begin + BLOCK]
            dot_rows(d_block, h_row, block, Wt)
            for e in range(len(block)):
                error = d_block[e] + b[block[e]] - ratings[begin + e]
                squared_error += error * error
                d_block[e] = np.float32(2) * error
            add_rows(dh, d_block, block, Wt)
        sse[i] = squared_error
        for j in range(len(dh)):
            dh[j] *= h_row[j] * (np.float32(1) - h_row[j])


@compiled
def by_column(indptr, indices, values, rows, num_columns):
    """The batch's ratings by column: column starts (n + 1), and of each rating its row in the
    batch, its place in row order, and its value."""
    starts = np.zeros(num_columns + 1, np.int64)
    for row in rows:
        for column in indices[indptr[row] : indptr[row + 1]]:
            starts[column + 1] += 1
    for column in range(num_columns):
        starts[column + 1] += starts[column]
    following = starts[:-1].copy()
    row_of = np.empty(starts[-1], np.int32)
    place = np.empty(starts[-1], np.int64)
    rating = np.empty(starts[-1], np.float32)
    e = 0
    for i in range(len(rows)):
        for entry in range(indptr[rows[i]], indptr[rows[i] + 1]):
            at = following[indices[entry]]
            following[indices[entry]] += 1
            row_of[at], place[at], rating[at] = i, e, values[entry]
            e += 1
    return starts, row_of, place, rating


@compiled
def weight_gradients(
    first, last, starts, row_of, place, rating, d, h, dz, V, Wt, strength, weighted, dV, dWt, db,
    penalty,
):  # fmt: skip
    """dJ/dV, dJ/dWt and dJ/db of columns first..last-1, and each one's part of Omega."""
    for u in range(first, last):
        start, end = starts[u], starts[u + 1]
        count = np.float32(end - start) if weighted else np.float32(1)
        v, w, dv, dw = V[u], Wt[u], dV[u], dWt[u]
        square = np.float32(0)
        for j in range(len(v)):
            square += v[j] * v[j] + w[j] * w[j]
            dv[j] = strength * count * v[j]
            dw[j] = strength * count * w[j]
        penalty[u] = count * square
        d_column = d[place[start:end]]
        db[u] = d_column.sum()
        add_rows(dv, rating[start:end], row_of[start:end], dz)
        add_rows(dw, d_column, row_of[start:end], h)


@compiled
def decode_pairs(first, last, rows, columns, h, Wt, b, out):
    """out (pairs) = h_row . W_column + b_column for pairs first..last-1."""
    for e in range(first, last):
        dot_rows(out[e : e + 1], h[rows[e]], columns[e : e + 1], Wt)
        out[e] += b[columns[e]]


class SparseEngine:
    """Gradients and predictions with `num_threads` threads.

    Every array is float32, C-contiguous, V and Wt (n, k), mu (k), b (n); the rating matrix is
    indptr int64, indices int32 and values float32, in CSR; row and column numbers are int64.
    """

    def __init__(self, lambda_value: float, weighted: bool, num_threads: int) -> None:
        self.strength, self.weighted = np.float32(lambda_value), weighted
        self.num_threads = num_threads
        self.pool = ThreadPoolExecutor(num_threads)
        self.results = []

    def gradients(self, indptr, indices, values, rows, V, Wt, mu, b):
        """dJ(B) for V, Wt, mu and b, then J(B) and its squared error, for the batch `rows`."""
        ratings = indptr, indices, values, rows
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(indptr[rows + 1] - indptr[rows], out=starts[1:])
        h = self.hidden(starts, *ratings, V, mu)
        d, dz, sse = np.empty(starts[-1], np.float32), np.empty_like(h), np.empty(len(rows))
        self.share(decode_and_back, starts, *ratings, Wt, b, h, starts, d, dz, sse)

        columns = by_column(*ratings, len(b))
        dV, dWt = self.result(V.shape), self.result(Wt.shape)
        db, penalty = np.empty_like(b), np.empty(len(b))
        work = columns[0] + COLUMN_COST * np.arange(len(b) + 1)
        self.share(
            weight_gradients, work, *columns, d, h, dz, V, Wt, self.strength, self.weighted,
            dV, dWt, db, penalty,
        )  # fmt: skip
        squared_error = sse.sum()
        cost = squared_error + self.strength / 2 * penalty.sum()
        return dV, dWt, dz.sum(0), db, np.float32(cost), np.float32(squared_error)

    def predictions(self, indptr, indices, values, V, Wt, mu, b, rows, columns):
        """The reconstruction at the (row, column) pairs, float32 [pairs]."""
        h = self.hidden(indptr, indptr, indices, values, np.arange(len(indptr) - 1), V, mu)
        out = np.empty(len(rows), np.float32)
        self.share(decode_pairs, np.arange(len(rows) + 1), rows, columns, h, Wt, b, out)
        return out

    def hidden(self, work, indptr, indices, values, rows, V, mu):
        """g(R V + mu) of `rows`, float32 (len(rows), k)."""
        z = np.empty((len(rows), V.shape[1]), np.float32)
        self.share(encode, work, indptr, indices, values, rows, V, mu, z)
        # The sigmoid as (1 + tanh(z / 2)) / 2, which cannot overflow, in place.
        z *= np.float32(0.5)
        np.tanh(z, out=z)
        z += np.float32(1)
        z *= np.float32(0.5)
        return z

    def result(self, shape: tuple[int, int]) -> np.ndarray:
        """An array to return to TensorFlow: one of an earlier call that is free again, or new.

        TensorFlow takes a result without a copy if it is aligned to 64 bytes, and holds a
        reference to it for as long as it uses it. Fresh memory costs as much as filling it.
        """
        for array in self.results:
            # Held by self.results, by `array` and by getrefcount's argument: by nobody else.
            if array.shape == shape and sys.getrefcount(array) == 3:
                return array
        size = 4 * shape[0] * shape[1]
        memory = np.empty(size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        array = memory[start : start + size].view(np.float32).reshape(shape)
        self.results.append(array)
        return array

    def share(self, kernel: Callable, work: np.ndarray, *arguments) -> None:
        """Run `kernel(first, last, *arguments)` in each thread, over pieces of 0..len(work)-2
        that are alike in cumulated `work`."""
        target = work[-1] * np.arange(1, self.num_threads) // self.num_threads
        cuts = [0, *np.searchsorted(work, target), len(work) - 1]
        pieces = [
            self.pool.submit(kernel, first, last, *arguments)
            for first, last in zip(cuts, cuts[1:], strict=False)
        ]
        for piece in pieces:
            piece.result()
