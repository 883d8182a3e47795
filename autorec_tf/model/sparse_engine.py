"""The sparse engine: the model's two products with a rating matrix, over observed ratings only, on
the CPU.

A dense step multiplies B x n matrices whose entries are mostly missing: at the density of
MovieLens-1M, 4 %, 24 of 25 products have a missing factor. Here every product belongs to a rating,
so an epoch costs O(ratings x k). The values and gradients are the same as in dense_engine.py, up to
the order of float32 sums.

Why Numba: TensorFlow's sparse ops are slower. `sparse_dense_matmul` runs on one thread, and
gather-and-reduce first writes every gathered row to memory. Numba installs with pip and needs no
compiler, and its kernels release the interpreter lock, so plain threads share the work. One thread
computes each result row, in a fixed order: the number of threads does not change a bit.

The kernels are called through `tf.numpy_function`. Their inputs are TensorFlow's buffers and are
never written to.

Shapes: B rows of a mini-batch, n columns, k hidden units, e ratings of the mini-batch.
"""

import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import tensorflow as tf

from autorec_tf.model.batch import Batch, Pairs, SparseRows
from autorec_tf.model.gradients import with_gradient
from autorec_tf.system.runtime import num_threads

BLOCK_BYTES = 1 << 20  # of the rows of a factor that stay in cache: half of a core's L2
ALIGNMENT = 64  # bytes; TensorFlow takes over an array of this alignment without a copy
COLUMN_COST = 4  # fixed cost of a column, in ratings, to divide the work evenly

options = dict(nogil=True, error_model="numpy",
               cache=os.access(os.path.dirname(os.path.abspath(__file__)), os.W_OK))
compiled = numba.njit(
    **options, fastmath={"reassoc", "contract", "nsz"}  # sums may be vectorised; NaN stays NaN
)
in_sequence = numba.njit(**options)  # adds in the order of TensorFlow's sums


@compiled
def add_rows(out, weights, index, X):
    """out (k) += sum_e weights[e] X[index[e]], eight rows at a time, for fewer loads of `out`."""
    e = 0
    while e + 8 <= len(index):
        x0, x1, x2, x3 = X[index[e]], X[index[e + 1]], X[index[e + 2]], X[index[e + 3]]
        x4, x5, x6, x7 = X[index[e + 4]], X[index[e + 5]], X[index[e + 6]], X[index[e + 7]]
        w0, w1, w2, w3 = weights[e], weights[e + 1], weights[e + 2], weights[e + 3]
        w4, w5, w6, w7 = weights[e + 4], weights[e + 5], weights[e + 6], weights[e + 7]
        for j in range(len(out)):
            out[j] += (
                w0 * x0[j] + w1 * x1[j] + w2 * x2[j] + w3 * x3[j]
                + w4 * x4[j] + w5 * x5[j] + w6 * x6[j] + w7 * x7[j]
            )
        e += 8
    if e + 4 <= len(index):
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
    """out[e] = h . X[index[e]], four at a time, for fewer loads of `h`."""
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
def spread(first, last, starts, x, out):
    """out[e] = x[i] for each rating e of rows first..last-1."""
    for i in range(first, last):
        out[starts[i] : starts[i + 1]] = x[i]


@in_sequence
def add_up(first, last, starts, position, d, out):
    """out[u] = the sum of d over the ratings of column u, for columns first..last-1. `position`: of
    the ratings in column order; empty if they are in this order."""
    for u in range(first, last):
        total = d.dtype.type(0)
        for e in range(starts[u], starts[u + 1]):
            total += d[position[e]] if len(position) else d[e]
        out[u] = total


@compiled
def block_end(column, start, end, limit):
    """Return the first position in start..end-1 where `column`, which ascends, is at least `limit`,
    or else `end`."""
    while start < end and column[start] < limit:
        start += 1
    return start


@compiled
def part_of_norms(first, last, rows, start, end, X, norms):
    """norms (n) = ||X_u||^2 for a fraction of the columns u in start..end-1: the fraction of `rows`
    in first..last-1. If `norms` is empty, do nothing."""
    if len(norms) == 0:
        return
    size = min(end, len(X)) - start
    for u in range(start + size * first // max(rows, 1), start + size * last // max(rows, 1)):
        total = np.float32(0)
        for j in range(X.shape[1]):
            total += X[u, j] * X[u, j]
        norms[u] = total


@compiled
def multiply(first, last, starts, column, weights, X, block, out, norms):
    """out (B, k) = S X for rows first..last-1, where S (B, n) has `weights` at `column`; also their
    `part_of_norms`.

    All rows of S use `block` rows of X before the next block is read.
    """
    at = starts[first:last].copy()
    out[first:last] = 0
    for limit in range(block, len(X) + block, block):
        part_of_norms(first, last, len(starts) - 1, limit - block, limit, X, norms)
        for i in range(first, last):
            start = at[i - first]
            end = block_end(column, start, starts[i + 1], limit)
            add_rows(out[i], weights[start:end], column[start:end], X)
            at[i - first] = end


@compiled
def multiply_at(first, last, starts, column, h, X, block, out, norms):
    """out (e) = the entries of h X' at each row's `column`, for rows first..last-1; also their
    `part_of_norms`."""
    at = starts[first:last].copy()
    for limit in range(block, len(X) + block, block):
        part_of_norms(first, last, len(starts) - 1, limit - block, limit, X, norms)
        for i in range(first, last):
            start = at[i - first]
            end = block_end(column, start, starts[i + 1], limit)
            dot_rows(out[start:end], h[i], column[start:end], X)
            at[i - first] = end


@compiled
def multiply_transposed(first, last, starts, row, position, weights, h, decay, X, out):
    """out (n, k) = S' h + decay X for columns first..last-1, with S (B, n) in column order."""
    by_column = weights[position[starts[first] : starts[last]]]
    for u in range(first, last):
        start, end = starts[u], starts[u + 1]
        x, out_u = X[u], out[u]
        for j in range(len(x)):
            out_u[j] = decay[u] * x[j]
        weights_u = by_column[start - starts[first] : end - starts[first]]
        add_rows(out_u, weights_u, row[start:end], h)


@in_sequence
def scale_rows(first, last, d, v, X, Y, dX, dY):
    """dX (n, k) = (d v') * Y and dY = (d v') * X for rows first..last-1."""
    for u in range(first, last):
        for j in range(len(v)):
            scale = d[u] * v[j]
            dX[u, j], dY[u, j] = scale * Y[u, j], scale * X[u, j]


@compiled
def copy_rows(first, last, indptr, indices, values, rows, starts, row, column, ratings):
    """Copy the ratings of the batch's rows first..last-1 to `row`, `column` and `ratings` of a
    `Batch`."""
    for i in range(first, last):
        begin, end = indptr[rows[i]], indptr[rows[i] + 1]
        row[starts[i] : starts[i + 1]] = i
        column[starts[i] : starts[i + 1]] = indices[begin:end]
        ratings[starts[i] : starts[i + 1]] = values[begin:end]


@compiled
def count_columns(first, last, starts, column, count):
    """count (n) += the number of ratings of each of columns first..last-1."""
    for i in range(len(starts) - 1):
        begin, end = starts[i], starts[i + 1]
        e = begin + np.searchsorted(column[begin:end], first)
        while e < end and column[e] < last:
            count[column[e]] += 1
            e += 1


@compiled
def transpose_columns(first, last, starts, column, following, row, position):
    """Write the ratings of columns first..last-1 in column order: their rows in the batch, and
    their positions in row order. `following` (n): the next free position of each column."""
    for i in range(len(starts) - 1):
        begin, end = starts[i], starts[i + 1]
        e = begin + np.searchsorted(column[begin:end], first)
        while e < end and column[e] < last:
            at = following[column[e]]
            following[column[e]] += 1
            row[at], position[at] = i, e
            e += 1


@compiled
def widen(row, bits):
    """bits (k, uint32) = the bits of the float32 numbers of `row`, whose bfloat16 bits are given
    (k, uint16): bfloat16 is the first half of float32."""
    for j in range(len(row)):
        bits[j] = np.uint32(row[j]) << np.uint32(16)


@compiled
def round_row(bits):
    """Round float32 numbers, given by their bits (k, uint32), to the nearest bfloat16 numbers, in
    place. NaN stays NaN, since it has bits in the first half."""
    for j in range(len(bits)):
        odd = (bits[j] >> np.uint32(16)) & np.uint32(1)
        bits[j] = (bits[j] + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)


@compiled
def multiply_pairs(first, last, g, S, Y, out):
    """For rows first..last-1, out (rows, 2, m, m + 1) = the inner products of row i of each of m
    matrices in `S`, and in `Y`, with row i of those in `Y` that are not before it, and with g's.
    The matrices are bfloat16, as uint16."""
    m = len(S)
    bits = np.empty((2 * m + 1, g.shape[1]), np.uint32)
    rows = bits.view(np.float32)
    for r in range(first, last):
        for i in range(m):
            widen(S[i][r], bits[i])
            widen(Y[i][r], bits[m + i])
        rows[2 * m] = g[r]
        for side in range(2):
            for i in range(m):
                x = rows[side * m + i]
                for j in range(i, m + 1):
                    other = rows[m + j]
                    total = np.float32(0)
                    for at in range(len(x)):
                        total += x[at] * other[at]
                    out[r, side, i, j] = total


@compiled
def combine_pairs(first, last, g, scale, S, Y, a, b, out):
    """out = scale (g - sum_j a_j Y_j) + sum_j b_j S_j for rows first..last-1, where `scale` has one
    number for each row. The matrices of `S` and `Y` are bfloat16, as uint16."""
    bits = np.empty((2, g.shape[1]), np.uint32)
    s, y = bits.view(np.float32)
    for r in range(first, last):
        row, factor = out[r], scale[r, 0]
        for at in range(len(row)):
            row[at] = factor * g[r, at]
        for j in range(len(a)):
            of_y, of_s = factor * a[j], b[j]
            widen(S[j][r], bits[0])
            widen(Y[j][r], bits[1])
            for at in range(len(row)):
                row[at] += of_s * s[at] - of_y * y[at]


@compiled
def difference_rows(first, last, x, x_last, g, g_last, s, y, ss, sy, yy):
    """s = x - x_last and y = g - g_last for rows first..last-1, rounded to bfloat16 (as uint16),
    and the inner products ss, sy and yy (rows, 1) of their rows."""
    bits = np.empty((2, x.shape[1]), np.uint32)
    ds, dy = bits.view(np.float32)
    for r in range(first, last):
        for j in range(x.shape[1]):
            ds[j], dy[j] = x[r, j] - x_last[r, j], g[r, j] - g_last[r, j]
        round_row(bits[0])
        round_row(bits[1])
        a, b, c = np.float32(0), np.float32(0), np.float32(0)
        for j in range(x.shape[1]):
            a += ds[j] * ds[j]
            b += ds[j] * dy[j]
            c += dy[j] * dy[j]
            s[r, j], y[r, j] = bits[0, j] >> np.uint32(16), bits[1, j] >> np.uint32(16)
        ss[r, 0], sy[r, 0], yy[r, 0] = a, b, c


class SparseEngine:
    """Gather and multiply mini-batches, in float32, with `threads` threads (default: the number of
    TensorFlow's threads, system/runtime.py). Results of more than `most_reused` bytes are freed
    instead of reused."""

    takes_all_rows = True  # a block of rows needs the memory of its ratings only

    def __init__(self, threads: int | None = None, most_reused: float = math.inf) -> None:
        self.num_threads, self.most_reused = threads or num_threads(), most_reused
        self.pool = ThreadPoolExecutor(self.num_threads)
        self.lock = threading.Lock()
        self.results = [np.empty(0, np.uint8)]  # never returns the first one: see `result`

    def gather(self, ratings: SparseRows, rows: tf.Tensor, num_columns: int) -> Batch:
        """Return the observed ratings of `rows` (int64 [B]) as a `Batch`."""
        starts, row, column, values = call(
            self._gather, [*ratings[:3], rows], tf.int64, tf.int32, tf.int32, tf.float32
        )
        return self.batch(starts, row, column, values, num_columns)

    def batch(
        self, starts: tf.Tensor, row: tf.Tensor, column: tf.Tensor, ratings: tf.Tensor,
        num_columns: int,
    ) -> Batch:
        """Return these ratings as a `Batch` over `num_columns` columns."""
        by_column = tuple(
            call(self._transpose, [starts, column, num_columns], tf.int64, tf.int32, tf.int32)
        )
        count = tf.cast(by_column[0][1:] - by_column[0][:-1], tf.float32)
        count = tf.ensure_shape(count, [num_columns])
        return Batch(starts, row, column, ratings, count, by_column)

    def input_product(
        self, batch: Batch, inputs: tf.Tensor, V: tf.Tensor, count: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return R V, float32 (B, k), where R has `inputs` (float32 [e]) at the batch's pairs, and
        sum_u count_u ||V_u||^2, with `count` float32 [n], or 0 without `count`."""

        @with_gradient
        def product(V):
            def gradient(dz, d_omega):
                return self.transposed(batch, inputs, dz, decay(V, count, d_omega), V)

            arguments = [batch.starts, batch.column, inputs, V, count is not None]
            z, norms = call(self._multiply, arguments, tf.float32, tf.float32)
            z = tf.ensure_shape(z, [None, V.shape[1]])
            return (z, weighted_sum(norms, count)), gradient

        return product(V)

    def output_product(
        self, pairs: Batch | Pairs, h: tf.Tensor, Wt: tf.Tensor, count: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return h W at `pairs` only, float32 [e], and sum_u count_u ||W_u||^2, or 0 without
        `count`. Gradients need a `Batch` as `pairs`."""

        @with_gradient
        def product(h, Wt):
            def gradient(d, d_omega):
                dh, _ = self.input_product(pairs, d, Wt)
                return dh, self.transposed(pairs, d, h, decay(Wt, count, d_omega), Wt)

            arguments = [pairs.starts, pairs.column, h, Wt, count is not None]
            at_pairs, norms = call(self._multiply_at, arguments, tf.float32, tf.float32)
            return (tf.ensure_shape(at_pairs, [None]), weighted_sum(norms, count)), gradient

        return product(h, Wt)

    def at_rows(self, pairs: Batch | Pairs, x: tf.Tensor) -> tf.Tensor:
        """Return x (B) at the row of each pair: float32 [e]."""

        @with_gradient
        def gathered(x):
            def gradient(d):
                return self.sum_of_rows(pairs, d)

            return tf.ensure_shape(call(self._spread, [pairs.starts, x], tf.float32),
                                   pairs.column.shape), gradient

        return gathered(x)

    def at_columns(self, pairs: Batch | Pairs, x: tf.Tensor) -> tf.Tensor:
        """Return x (n) at the column of each pair: float32 [e]. Gradients need a `Batch`."""

        @with_gradient
        def gathered(x):
            def gradient(d):
                return self.sum_of_columns(pairs, d)

            return tf.gather(x, pairs.column), gradient

        return gathered(x)

    def at_pairs(self, pairs: Batch | Pairs, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Return the product of a (B) at the row and x (n) at the column of each pair: float32 [e].
        Gradients need a `Batch`, and compute the factors again, which takes less memory."""

        @with_gradient
        def product(a, x):
            def gradient(d):
                return (self.sum_of_rows(pairs, d * self.at_columns(pairs, x)),
                        self.sum_of_columns(pairs, d * self.at_rows(pairs, a)))

            return self.at_rows(pairs, a) * self.at_columns(pairs, x), gradient

        return product(a, x)

    def sum_of_rows(self, pairs: Batch | Pairs, d: tf.Tensor) -> tf.Tensor:
        """Return the sum of d (e) over the pairs of each row: float32 [B]."""
        sums = call(self._add_up, [pairs.starts, tf.zeros([0], tf.int32), d], tf.float32)
        return tf.ensure_shape(sums, pairs.starts[1:].shape)

    def sum_of_columns(self, batch: Batch, d: tf.Tensor) -> tf.Tensor:
        """Return the sum of d (e) over the ratings of each column: float32 [n]."""
        starts, _, position = batch.by_column
        sums = call(self._add_up, [starts, position, d], tf.float32)
        return tf.ensure_shape(sums, batch.count.shape)

    def transposed(
        self, batch: Batch, weights: tf.Tensor, h: tf.Tensor, decay: tf.Tensor, X: tf.Tensor
    ) -> tf.Tensor:
        """Return S' h + decay X (n, k), where S (B, n) has `weights` at the batch's pairs."""
        inputs = [*batch.by_column, weights, h, decay, X]
        out = call(self._multiply_transposed, inputs, tf.float32)
        return tf.ensure_shape(out, X.shape)

    def product_matvec(self, X: tf.Tensor, Y: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """Return (X * Y) v, float32 [n], from X and Y (n, k) and v (k). The gradient computes X * Y
        again, which takes less memory."""

        @with_gradient
        def product(X, Y, v):
            def gradient(d):
                with tf.control_dependencies([d]):  # otherwise, TensorFlow keeps the first X * Y
                    dv = tf.linalg.matvec(X * Y, d, transpose_a=True)
                with tf.control_dependencies([dv]):  # X * Y is freed first
                    dX, dY = call(self._scaled_rows, [d[:, None], v[None], X, Y],
                                  tf.float32, tf.float32)
                return tf.ensure_shape(dX, X.shape), tf.ensure_shape(dY, Y.shape), dv

            return tf.linalg.matvec(X * Y, v), gradient

        return product(X, Y, v)

    def pair_type(self, dtype: tf.DType) -> tf.DType:
        """Return the type in which L-BFGS keeps its pairs, for parameters of type `dtype`: half of
        the memory to keep and to read."""
        return tf.bfloat16

    def pair_products(self, g: tf.Tensor, s: Sequence[tf.Tensor],
                      y: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the inner products of the rows of each s_i, and of each y_i, with those of y_j for
        j >= i, and of g: float32 (rows, 2, m, m + 1); other entries are arbitrary. s, y: bfloat16.
        """
        shape = [math.prod(g.shape[:-1]), 2, len(s), len(s) + 1]
        return by_rows(self._pair_products, [shape], g, *s, *y)[0]

    def pair_sum(self, g: tf.Tensor, scale: tf.Tensor, s: Sequence[tf.Tensor],
                 y: Sequence[tf.Tensor], a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Return scale (g - sum_j a_j y_j) + sum_j b_j s_j, of g's shape. `scale` has the shape of
        `g` with a last axis of 1; a, b: [m]; s, y: bfloat16."""
        return by_rows(self._pair_sum, [g.shape], a[None], b[None], g, scale, *s, *y)[0]

    def differences(self, x: tf.Tensor, x_last: tf.Tensor, g: tf.Tensor,
                    g_last: tf.Tensor) -> list[tf.Tensor]:
        """Return s = x - x_last and y = g - g_last, rounded to bfloat16, and the inner products of
        their rows: s with s, s with y, y with y, each of the shape of x with a last axis of 1."""
        one = [*x.shape[:-1], 1]
        return by_rows(self._differences, (x.shape, x.shape, one, one, one), x, x_last, g, g_last,
                       types=[tf.bfloat16] * 2 + [tf.float32] * 3)

    def _pair_products(self, g, *pairs):
        m = len(pairs) // 2
        out, pairs = np.empty((len(g), 2, m, m + 1), np.float32), bits(pairs)
        self.parallel_for(multiply_pairs, np.arange(len(g) + 1), g, pairs[:m], pairs[m:], out)
        return out

    def _pair_sum(self, a, b, g, scale, *pairs):
        m, out, pairs = len(pairs) // 2, self.result(g.shape), bits(pairs)
        self.parallel_for(combine_pairs, np.arange(len(g) + 1), g, scale, pairs[:m], pairs[m:],
                          a[0], b[0], out)
        return out

    def _differences(self, x, x_last, g, g_last):
        s, y = (np.empty(x.shape, tf.bfloat16.as_numpy_dtype) for _ in range(2))
        products = [np.empty((len(x), 1), np.float32) for _ in range(3)]
        self.parallel_for(difference_rows, np.arange(len(x) + 1), x, x_last, g, g_last,
                          *bits((s, y)), *products)
        return s, y, *products

    def _scaled_rows(self, d, v, X, Y):
        dX, dY = self.result(X.shape), self.result(X.shape)
        self.parallel_for(scale_rows, np.arange(len(X) + 1), d[:, 0], v[0], X, Y, dX, dY)
        return dX, dY

    def _gather(self, indptr, indices, values, rows):
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(indptr[rows + 1] - indptr[rows], out=starts[1:])
        row, column = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
        ratings = np.empty(starts[-1], np.float32)
        arguments = indptr, indices, values, rows, starts, row, column, ratings
        self.parallel_for(copy_rows, starts, *arguments)
        return starts, row, column, ratings

    def _transpose(self, starts, column, num_columns):
        by_column = np.zeros(num_columns + 1, np.int64)
        every = np.arange(num_columns + 1)
        self.parallel_for(count_columns, every, starts, column, by_column[1:])
        np.cumsum(by_column, out=by_column)
        row, position = np.empty(len(column), np.int32), np.empty(len(column), np.int32)
        arguments = starts, column, by_column[:-1].copy(), row, position
        self.parallel_for(transpose_columns, every, *arguments)
        return by_column, row, position

    def _spread(self, starts, x):
        out = np.empty(starts[-1], np.float32)
        self.parallel_for(spread, starts, starts, x, out)
        return out

    def _add_up(self, starts, position, d):
        out = np.empty(len(starts) - 1, np.float32)
        self.parallel_for(add_up, starts, starts, position, d, out)
        return out

    def _multiply(self, starts, column, weights, X, with_norms):
        out = self.result((len(starts) - 1, X.shape[1]))
        norms = np.zeros(len(X) * with_norms, np.float32)
        self.parallel_for(multiply, starts, starts, column, weights, X, block_rows(X), out, norms)
        return out, norms

    def _multiply_at(self, starts, column, h, X, with_norms):
        out, norms = np.empty(len(column), np.float32), np.zeros(len(X) * with_norms, np.float32)
        self.parallel_for(multiply_at, starts, starts, column, h, X, block_rows(X), out, norms)
        return out, norms

    def _multiply_transposed(self, starts, row, position, weights, h, decay, X):
        out = self.result(X.shape)
        work = starts + COLUMN_COST * np.arange(len(starts))
        arguments = starts, row, position, weights, h, decay, X, out
        self.parallel_for(multiply_transposed, work, *arguments)
        return out

    def result(self, shape: tuple[int, int]) -> np.ndarray:
        """Return a float32 array for a result of TensorFlow, in a free buffer of an earlier call or
        in new memory.

        TensorFlow takes it over without a copy, and holds a reference as long as it uses it.
        Allocating new memory costs as much as filling it.
        """
        num_bytes = 4 * shape[0] * shape[1] + ALIGNMENT
        if num_bytes > self.most_reused:
            return aligned(np.empty(num_bytes, np.uint8), shape)
        with self.lock:  # so that two threads never take the same buffer
            # The reference count of a free buffer depends on Python's version. The first of the
            # results is never in use, so its count is the count of a free buffer.
            counts = [sys.getrefcount(memory) for memory in self.results]
            for number in range(1, len(counts)):
                if counts[number] == counts[0] and len(self.results[number]) == num_bytes:
                    return aligned(self.results[number], shape)
            self.results.append(np.empty(num_bytes, np.uint8))
            return aligned(self.results[-1], shape)

    def release_buffers(self) -> None:
        """Free the buffers of results, after the last step."""
        with self.lock:
            del self.results[1:]

    def parallel_for(self, kernel: Callable, work: np.ndarray, *arguments: Any) -> None:
        """Run `kernel(first, last, *arguments)` in each thread, over pieces of 0..len(work)-2 of
        equal work; `work` is cumulative."""
        target = work[-1] * np.arange(1, self.num_threads) // self.num_threads
        cuts = [0, *np.searchsorted(work, target), len(work) - 1]
        pieces = [self.pool.submit(kernel, *ends, *arguments) for ends in pairwise(cuts)]
        for piece in pieces:
            piece.result()


def weighted_sum(norms: tf.Tensor, count: tf.Tensor | None) -> tf.Tensor:
    """Return sum_u count_u norms_u, or 0 without `count`."""
    if count is None:
        return tf.zeros([])
    return tf.reduce_sum(count * tf.ensure_shape(norms, count.shape))


def decay(X: tf.Tensor, count: tf.Tensor | None, d_omega: tf.Tensor) -> tf.Tensor:
    """Return the factor of X_u in the gradient of `weighted_sum`: float32 [n]."""
    return tf.zeros([X.shape[0]]) if count is None else 2 * d_omega * count


def call(function: Callable, inputs: list, *types: tf.DType) -> tf.Tensor | list[tf.Tensor]:
    """Call `function` as an op. It only reads its NumPy arguments and depends on nothing else."""
    returned = list(types) if len(types) > 1 else types[0]
    return tf.numpy_function(function, inputs, returned, stateful=False)


def by_rows(function: Callable, shapes: Sequence, *inputs: tf.Tensor,
            types: Sequence[tf.DType] = (tf.float32,)) -> list[tf.Tensor]:
    """Return the results of `function`, of these `shapes` and `types`. It receives its inputs as
    matrices of their rows."""
    matrices = [tf.reshape(x, [-1, x.shape[-1]]) for x in inputs]
    results = call(function, matrices, *types)
    results = results if len(shapes) > 1 else [results]
    return [tf.reshape(x, shape) for x, shape in zip(results, shapes, strict=True)]


def aligned(memory: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a float32 array of `shape` in `memory` (uint8, longer by `ALIGNMENT` bytes). The array
    and all its views hold a reference to `memory`."""
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + len(memory) - ALIGNMENT].view(np.float32).reshape(shape)


def bits(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return bfloat16 arrays as uint16, the type of their bits in kernels."""
    return tuple(x.view(np.uint16) for x in arrays)


def block_rows(X: np.ndarray) -> int:
    """Return the number of rows of `X` to keep in cache at a time."""
    return max(1, BLOCK_BYTES // (X.itemsize * X.shape[1]))
