"""MMLPHuman (CVPR 2025): a clothed body whose details follow the pose, by small private networks spread over it."""
