"""Numbers every rasteriser here shares; they are gsplat 1.5.3's, so trained avatars look the same everywhere."""

BLUR_PX2 = 0.3  # added to both variances on screen: a Gaussian is never thinner than about a pixel
SHARP_EPSILON = 1e-6  # keeps the slope of the root finite where sharp Gaussians are seen edge-on
ALPHA_CEILING = 0.999  # keeps 1 - alpha invertible
ALPHA_FLOOR = 1.0 / 255.0  # contributions that an 8-bit image would not show are skipped
TRANSMITTANCE_STOP = 1e-4  # a pixel is finished before the Gaussian that would take it to or below this
TANGENT_MARGIN = 0.15  # of the image's width in tangents: how far outside the frame the Jacobian is still followed
EMPTY_ALPHA = 1e-10  # below this nothing was hit and depth is 0
