"""Heads that learn while their pictures arrive: frame sources, the sampler of what came, the learner, its snapshots."""
