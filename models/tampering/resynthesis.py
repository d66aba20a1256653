"""Families that make a region anew without a claim about a tumour: what remains is the trace of the tool."""

# ruff: noqa: ARG001  every family has the same signature

import cv2
import numpy as np

from models.tampering.material import FloatArray, Mask, Material, slow_field, smooth_noise

_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA)


def resampled(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The patch itself, after a smaller grid and back, or after a fractional shift and a small turn."""
    interpolation = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
    size = (slab.shape[2], slab.shape[1])
    if rng.random() < 0.5:
        factor = float(rng.uniform(0.4, 0.85))
        small = (max(2, round(size[0] * factor)), max(2, round(size[1] * factor)))
        planes = [
            cv2.resize(cv2.resize(plane, small, interpolation=cv2.INTER_AREA), size, interpolation=interpolation)
            for plane in slab
        ]
        return np.stack(planes)
    turn, zoom, shift = rng.uniform(-0.08, 0.08), rng.uniform(0.95, 1.05), rng.uniform(0.2, 0.8, size=2)
    _, rows, columns = np.nonzero(mask)
    centre = np.array([columns.mean(), rows.mean()])
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine = np.hstack([matrix, (centre + shift - matrix @ centre)[:, np.newaxis]]).astype(np.float32)
    flags = (cv2.INTER_CUBIC if interpolation == cv2.INTER_AREA else interpolation) | cv2.WARP_INVERSE_MAP
    return np.stack([cv2.warpAffine(plane, affine, size, flags=flags, borderMode=cv2.BORDER_REFLECT) for plane in slab])


def smoothed(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The patch itself, denoised: Gaussian, median or bilateral, sometimes with a gain."""
    kind = int(rng.integers(3))
    sigma, gain = float(rng.uniform(0.6, 1.8)), float(rng.uniform(0.9, 1.1))
    size = int(rng.choice([3, 5]))
    planes = []
    for plane in slab:
        if kind == 0:
            smooth = cv2.GaussianBlur(plane, (0, 0), sigma)
        elif kind == 1:
            smooth = cv2.medianBlur(plane, size)
        else:
            smooth = cv2.bilateralFilter(plane, 5, 4.0 * material.noise + 1e-6, sigma + 1.0)
        planes.append((smooth - material.offset) * gain + material.offset)
    return np.stack(planes).astype(np.float32)


def renoised(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The patch itself with more noise than the scan has."""
    amount = material.noise * float(rng.uniform(0.8, 2.0))
    return (slab + amount * smooth_noise(slab.shape, float(rng.uniform(0.0, 1.0)), rng)).astype(np.float32)


def bottleneck(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """What an auto-encoder leaves: few coefficients, then up-sampling by a learned kernel with its checkerboard."""
    factor = int(rng.choice([2, 2, 4]))
    kernel = cv2.getGaussianKernel(2 * factor + 1, 0.6 * factor)
    kernel = (kernel @ kernel.T) * (1 + 0.25 * rng.standard_normal((2 * factor + 1, 2 * factor + 1)))
    kernel = np.asarray(kernel * factor**2 / kernel.sum(), dtype=np.float32)
    size = (slab.shape[2], slab.shape[1])
    planes = []
    for plane in slab:
        small = cv2.resize(plane, (-(-size[0] // factor), -(-size[1] // factor)), interpolation=cv2.INTER_AREA)
        spread = np.zeros((small.shape[0] * factor, small.shape[1] * factor), dtype=np.float32)
        spread[factor // 2 :: factor, factor // 2 :: factor] = small
        weights = np.zeros_like(spread)
        weights[factor // 2 :: factor, factor // 2 :: factor] = 1.0
        even = cv2.filter2D(weights, cv2.CV_32F, kernel)
        uneven = float(rng.uniform(0.5, 1.0))  # trained decoders hide most of the checkerboard
        decoded = cv2.filter2D(spread, cv2.CV_32F, kernel) / np.maximum(even**uneven, 0.05)
        planes.append(decoded[: size[1], : size[0]])
    return np.stack(planes)


def truncated_dct(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The patch as a block transform keeps it: 8×8 cosine coefficients below a level are dropped."""
    rows, columns = slab.shape[1] - slab.shape[1] % 8, slab.shape[2] - slab.shape[2] % 8
    if not rows or not columns:
        return smoothed(slab, mask, material, rng)
    basis = cv2.dct(np.eye(8, dtype=np.float32), flags=cv2.DCT_ROWS)  # row k of its transpose is cosine k
    level = material.noise * float(rng.uniform(2.0, 5.0))
    result = slab.copy()
    blocks = slab[:, :rows, :columns].reshape(len(slab), rows // 8, 8, columns // 8, 8).swapaxes(2, 3)
    coefficients = basis.T @ blocks @ basis
    coefficients[np.abs(coefficients) < level] = 0.0
    decoded = basis @ coefficients @ basis.T
    result[:, :rows, :columns] = decoded.swapaxes(2, 3).reshape(len(slab), rows, columns)
    return result


def gained(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The patch itself, brighter or darker: its noise stays, at another strength."""
    gain = float(rng.uniform(1.08, 1.3))
    gain = gain if rng.random() < 0.5 else 1.0 / gain
    return ((slab - material.offset) * np.float32(gain) + material.offset).astype(np.float32)


def medianed(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The patch itself after a median of 3×3 or 5×5 pixels, or of three slices."""
    kind = int(rng.integers(3 if len(slab) > 2 else 2))
    if kind == 2:
        beside = np.concatenate([slab[:1], slab, slab[-1:]])
        return np.asarray(np.median(np.stack([beside[:-2], beside[1:-1], beside[2:]]), axis=0), dtype=np.float32)
    return np.stack([cv2.medianBlur(plane, (3, 5)[kind]) for plane in slab])


def elastic(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """Growth or shrinkage of what is there: an elastic warp that is still at the rim."""
    strength = float(rng.uniform(0.25, 0.6)) * (1.0 if rng.random() < 0.5 else -1.0)
    return _warped(slab, mask, strength, rng)


def growth(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A real lesion that grew: the bright tissue in the region spreads towards its rim."""
    return _warped(slab, mask, float(rng.uniform(0.3, 0.65)), rng)


def shrinkage(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A real lesion that shrank: what lies around it is drawn towards its middle."""
    return _warped(slab, mask, -float(rng.uniform(0.4, 0.9)), rng)


def _warped(slab: FloatArray, mask: Mask, strength: float, rng: np.random.Generator) -> FloatArray:
    """Drawn away from the middle (`strength` > 0) or towards it, nothing at the rim."""
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in mask])
    reach = max(float(depth.max()), 1.0)
    _, rows, columns = np.nonzero(mask)
    y, x = np.mgrid[: slab.shape[1], : slab.shape[2]].astype(np.float32)
    wobble = 0.3 * reach * slow_field((2, *slab.shape[1:]), 6, rng) * 0.3
    flags = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    planes = []
    for plane, inside in zip(slab, depth, strict=True):
        weight = np.clip(inside / reach, 0.0, 1.0) ** 0.7
        from_x = x + weight * (strength * (columns.mean() - x) + wobble[0])
        from_y = y + weight * (strength * (rows.mean() - y) + wobble[1])
        planes.append(
            cv2.remap(plane, from_x.astype(np.float32), from_y.astype(np.float32), flags, borderMode=cv2.BORDER_REFLECT)
        )
    return np.stack(planes)
