"""The mathematics of IsoScore*, once: plain arithmetic that imports nothing and that every backend reads.

Notation, for m points xᵢ in d dimensions, centred to their mean, with scatter A = Σ xᵢxᵢᵀ:

    S = A/(m−1)              covariance                     aᵢ = ‖xᵢ‖²
    T = tr S                 total variance                 Q = Σ aᵢ²/(m−1)
    F = ‖S‖²_F = tr S²       sum of squared entries         z = Σ aᵢxᵢ
    Σ = (1−ζ)·S + ζ·Σ_S      shrunk covariance              C = ⟨S, Σ_S⟩ = tr(S·Σ_S)
    PR = T²/F                participation ratio            score = (PR − 1)/(d − 1)

Every score is one form of two covariances A and B of the same space, with ⟨A, B⟩ = Σᵢⱼ AᵢⱼBᵢⱼ = tr(AB):

    s(A, B) = (tr A·tr B/⟨A, B⟩ − 1)/(d − 1)

- A = B = Σ is IsoScore*.
- A and B of two halves of the points that have no group in common (a group is what was sampled: a sentence with all its
  tokens) are independent, so that E⟨A, B⟩ = ⟨E A, E B⟩ whatever the points of a group have to do with each other. Each
  half is centred at its own mean, which leaves a bias of PR of about 2/G_A·(⟨Σ, Σ_b⟩/‖Σ‖² − tr Σ_b/tr Σ), with Σ_b the
  part of Σ = Σ_b + Σ_w that lies between groups and G_A the groups of a half, and the skew of a ratio.
- A of a batch and B = Σ_S, held constant: about B, s(A, A) = 2·s(A, B) − s(B, B) + O(‖A − B‖²), with equal gradients
  at A = B. So the gradient has the right size for any batch, and takes one product, X·B.

T₀ and F₀ are the trace and squared norm of Σ_S. The score does not change with scale, so backends return the
invariants of S/s² and Σ_S/s₀² (s² = tr S/d; s₀² is the mean or the largest variance of Σ_S), whose squares are in
range at any scale; s and s₀ are constants in every derivative, since the score does not depend on them. For the same
reason points are divided by a length of about their largest entry before any product.

Source: Rudman & Eickhoff, *Stable Anisotropic Regularization*, ICLR 2024 (arXiv 2305.19358), Algorithm 1. There
λ̂ = √d·λ/‖λ‖, so Σλ̂ = √d·T/√F and ‖λ̂ − 1‖² = 2d − 2√d·T/√F; put into its last steps, all but T/√F cancels.

Every ``float`` below may also be a 0-d array of any framework: only operators are used. Fractions whose denominator may
vanish are returned as numerator and denominator, for the caller to guard.
"""


def shrinkage_weights(zeta: float, ratio: float, target_ratio: float) -> tuple[float, float]:
    """Return a = (1−ζ)·s² and b = ζ·s₀², the weights of S/s² and Σ_S/s₀² in Σ, from s and s₀ in a common unit."""
    return (1 - zeta) * ratio * ratio, zeta * target_ratio * target_ratio


def mixed(a: float, b: float, sample: float, target: float) -> float:
    """Return T of Σ = a·S + b·Σ_S from T and T₀."""
    return a * sample + b * target


def mixed_squares(a: float, b: float, sample: float, cross: float, target: float) -> float:
    """Return F of Σ from F, C and F₀: ‖a·S + b·Σ_S‖² = a²F + 2abC + b²F₀, a sum without cancellation."""
    return a * a * sample + 2 * a * b * cross + b * b * target


def score_fraction(t_a: float, t_b: float, inner: float, dim: int) -> tuple[float, float]:
    """Return s(A, B) as (tr A·tr B − ⟨A, B⟩, (d − 1)·⟨A, B⟩); the numerator is zero where A or B is.

    IsoScore* is that of T, T and F.
    """
    return t_a * t_b - inner, (dim - 1) * inner


def score_slopes(t_a: float, t_b: float, inner: float, dim: int) -> tuple[float, float]:
    """Return ∂s/∂tr A = tr B/((d − 1)·⟨A, B⟩) and ∂s/∂⟨A, B⟩ = −tr A·tr B/((d − 1)·⟨A, B⟩²).

    For A = B both traces are T: ∂IsoScore*/∂T is twice the first.
    """
    ratio = t_b / inner
    return ratio * (1 / (dim - 1)), t_a / inner * ratio * (-1 / (dim - 1))


def anchored_score(score: float, own: float) -> float:
    """Return 2·s(A, B) − s(B, B), whose value and gradient in A are those of s(A, A) at A = B."""
    return 2 * score - own


def rest_of_low_rank(t0: float, f0: float, within: float, squares: float, dim: int, rank: int) -> tuple[float, float]:
    """Return ρ and ρ′·tr B of U(M − ρI)Uᵀ + ρ′I, which stands for B where only A's part in k directions U is wanted.

    M = UᵀBU, of trace and squared norm `within` and `squares`. ρ = (tr B − tr M)/(d − k) is the mean variance of the
    other directions; ρ′ gives ⟨B, U(M − ρI)Uᵀ + ρ′I⟩ = ‖B‖², so that the value is exact at A = B.
    """
    rho = (t0 - within) / max(dim - rank, 1)
    return rho, f0 - squares + rho * within


def largest_halves_ratio(dim: int) -> float:
    """Return the largest tr A·tr B/⟨A, B⟩ of two halves that training takes: 4d, four times that of isotropic points.

    By Cauchy-Schwarz ‖Σ‖² ≥ (tr Σ)²/d; ⟨A, B⟩ of two samples may lie below, and at zero, where they share no direction.
    """
    return 4.0 * dim


def participation_ratio(score: float, dim: int) -> float:
    """Return PR = 1 + (d − 1)·score, the effective number of dimensions."""
    return 1 + (dim - 1) * score


def score_from_participation_ratio(ratio: float, dim: int) -> float:
    """Return IsoScore* = (PR − 1)/(d − 1)."""
    return (ratio - 1) / (dim - 1)


def dimensions_ratio(score: float, target: float, dim: int) -> float:
    """Return PR/PR*, the ratio of the effective dimensions of a score to those of a target score.

    The square of its logarithm measures relative change in both directions: in d = 384 dimensions 0.003 is as far from
    0.05 as that from 0.5. PR ≥ 1 keeps it finite.
    """
    return participation_ratio(score, dim) / participation_ratio(target, dim)


def unbiased_squares(t: float, f: float, q: float, m: float) -> tuple[float, float]:
    """Return unbiased estimates of (tr Σ)² and tr(Σ²), both divided by `unbiased_factor`.

    They are the U-statistics of order four, exact for any distribution with fourth moments and m ≥ 4. Without the
    factor, which cancels in their ratio PR, nothing is singular at m = 2 or 3.
    """
    squared_trace = 2 * f + (m * m - 3 * m + 1) * t * t - m * q
    trace_of_square = (m - 1) * (m - 2) * f + t * t - m * q
    return squared_trace, trace_of_square


def unbiased_terms(t: float, f: float, q: float, m: float) -> float:
    """Return the sum of the terms in `unbiased_squares`' tr(Σ²), which bounds its rounding error."""
    return (m - 1) * (m - 2) * f + t * t + m * q


def unbiased_slopes(t: float, rho: float, rho_dB_dF: float, per_B: float, m: float) -> tuple[float, float, float]:
    """Return ∂/∂T, ∂/∂F and ∂/∂Q of (A/B − 1)/(d − 1) for A and B of `unbiased_squares`: (∂A − ρ·∂B)·per_B.

    ρ is A/B, but 0 where B is the floor, which depends on F alone; rho_dB_dF is (A/B)·∂B/∂F; per_B is 1/((d − 1)·B).
    """
    return 2 * t * (m * m - 3 * m + 1 - rho) * per_B, (2 - rho_dB_dF) * per_B, m * (rho - 1) * per_B


def unbiased_factor(m: float) -> float:
    """Return the factor c = (m−1)/(m(m−2)(m−3)) that `unbiased_squares` leaves out."""
    return (m - 1) / (m * (m - 2) * (m - 3))


def unbiased_floor(f: float, m: float, dim: int) -> float:
    """Return the smallest tr(Σ²), without the factor c, that training divides by.

    By Cauchy-Schwarz tr(Σ²) ≥ (tr Σ)²/d, and E[F] ≈ tr(Σ²) + (tr Σ)²/(m−1); hence tr(Σ²)/F is at least about
    (m−1)/(m−1+d), reached by isotropic points. A quarter of that keeps the score below about four and is rarely reached
    (for d = 768 and m = 16 it is more than four standard deviations away).
    """
    return (m - 1) * (m - 2) * f * (m - 1) / (4 * (m - 1 + dim))


def point_gradient_factors(m: float, gt: float, gf: float, gc: float, gq: float) -> tuple[float, float, float, float]:
    """Return k₁ to k₄ of ∂L/∂xᵢ = k₁·xᵢ + k₂·S·xᵢ + k₃·Σ_S·xᵢ + k₄·(aᵢxᵢ − z/m), from ∂L/∂T, ∂L/∂F, ∂L/∂C and ∂L/∂Q.

    Every column sums to zero over the points, so centring adds no term.
    """
    per_point = 2 / (m - 1)
    return gt * per_point, gf * (2 * per_point), gc * per_point, gq * (2 * per_point)


def merged_mean(n1: float, mean1: float, n2: float, mean2: float) -> float:
    """Return the mean of the union of two clouds."""
    return mean1 + (mean2 - mean1) * (n2 / (n1 + n2))


def merged_outer_factor(n1: float, n2: float) -> float:
    """Return n₁n₂/n of A = A₁ + A₂ + δδᵀ·n₁n₂/n, with δ = μ₂ − μ₁ and n = n₁ + n₂ (Chan et al. 1983)."""
    return n1 * n2 / (n1 + n2)


def recentred_fourth(q: float, n: float, t: float, hh: float, hah: float, hz: float) -> float:
    """Return Σ‖xᵢ − h‖⁴ of centred points, from Σ‖xᵢ‖⁴, n, tr A, ‖h‖², hᵀAh and h·z."""
    return q + 4 * hah + n * hh * hh - 4 * hz + 2 * hh * t


def recentred_third(z: float, n: float, t: float, h: float, ah: float, hh: float) -> float:
    """Return Σ‖xᵢ − h‖²(xᵢ − h) of centred points, from z, n, tr A, h, A·h and ‖h‖² (z, h and A·h are vectors)."""
    return z - t * h - 2 * ah - n * hh * h


def leave_one_out(m: int, t: float, f: float, q: float, a: float, b: float, g: float) -> tuple[float, float, float]:
    """Return tr A, ‖A‖²_F and Σaⱼ² of all points but point i, about their mean.

    t, f and q are those sums over all; aᵢ = ‖xᵢ‖², bᵢ = xᵢᵀAxᵢ, gᵢ = xᵢ·z (arrays over i).
    """
    n = m - 1
    r = m / n
    t_out = t - r * a
    f_out = f - 2 * r * b + r * r * a * a
    left = a * (1 + 1 / n) * (1 + 1 / n)
    q_out = q + 4 * b / n**2 + m * a * a / n**4 + 4 * g / n + 2 * a * t / n**2 - left * left
    return t_out, f_out, q_out


def without_group(
    t: float, inner: float, n: float, k: float, squares: float, mapped: float, sum_squares: float, sum_mapped: float
) -> tuple[float, float]:
    """Return tr A and ⟨A, B⟩ of the scatter A of n centred points without a group of k, about their own mean.

    With s = Σxᵢ over the group: Σ‖xᵢ‖², ΣxᵢᵀBxᵢ, ‖s‖² and sᵀBs are given.
    """
    rest = n - k
    return t - squares - sum_squares / rest, inner - mapped - sum_mapped / rest
