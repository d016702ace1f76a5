"""The layers of a Kimi-Linear-style hybrid: KDA, MLA and mixtures of experts."""
