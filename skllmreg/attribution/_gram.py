"""Gram matrices of dense and sparse rows, and samples of their spectra."""

import numpy as np
from scipy import sparse
from scipy.linalg import eigh_tridiagonal

N_PROBES, N_LANCZOS = 6, 25  # random vectors and steps that sample a spectrum


def gram(A, weight):
    """Compute A' diag(weight) A as an array, for dense or sparse A."""
    root = np.sqrt(weight)
    half = sparse.diags_array(root) @ A if sparse.issparse(A) else root[:, None] * A
    product = half.T @ half  # BLAS sees that it is symmetric
    return product.toarray() if sparse.issparse(product) else product


def spectrum(X, root_weight, sd, beside=None):
    """Sample the spectrum of the weighted Gram matrix of ``[X diag(sd), beside]``.

    By stochastic Lanczos quadrature [1]_: products with X, and matrices of order `N_LANCZOS`.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
    root_weight : ndarray of shape (n_samples,)
        Square roots of the rows' weights.
    sd : ndarray of shape (n_features,)
    beside : ndarray of shape (n_samples, n_more), default=None
        More columns.

    Returns
    -------
    nodes, shares : ndarray
        Eigenvalues, and how many of the matrix's each of them stands for.

    References
    ----------
    .. [1] Ubaru, Chen, Saad (2017), "Fast estimation of tr(f(A)) via stochastic Lanczos
       quadrature", SIAM Journal on Matrix Analysis and Applications 38.
    """
    n, d = X.shape
    X_transposed = X.T.tocsr() if sparse.issparse(X) else X.T
    beside = np.empty((n, 0)) if beside is None else beside

    def to_rows(V):
        return root_weight[:, None] * (X @ (sd[:, None] * V[:d]) + beside @ V[d:])

    def to_columns(V):
        V = root_weight[:, None] * V
        return np.concatenate([sd[:, None] * (X_transposed @ V), beside.T @ V])

    n_columns = d + beside.shape[1]
    order = min(n, n_columns)

    def product(V):
        return to_columns(to_rows(V)) if order == n_columns else to_rows(to_columns(V))

    # The same probes for all candidates: what they err by is common to all.
    V = np.random.default_rng(0).choice([-1.0, 1.0], (order, N_PROBES)) / np.sqrt(order)
    basis, diagonal, off_diagonal = [V], [], []
    for _ in range(min(N_LANCZOS, order)):
        following = product(V)
        diagonal.append(np.sum(following * V, axis=0))
        for _ in range(2):  # Gram-Schmidt; once is not enough
            for earlier in basis:
                following -= np.sum(following * earlier, axis=0) * earlier
        size = np.linalg.norm(following, axis=0)
        off_diagonal.append(size)
        V = following / np.maximum(size, 1e-300)
        basis.append(V)
    nodes, shares = [], []
    for a, b in zip(np.transpose(diagonal), np.transpose(off_diagonal), strict=True):
        values, vectors = eigh_tridiagonal(a, b[:-1])
        nodes.append(np.maximum(values, 0))
        shares.append(vectors[0] ** 2 * order / N_PROBES)
    return np.concatenate(nodes), np.concatenate(shares)
