"""Networks: EP networks and the baselines they are compared with, as they are stated, kept, imported and named."""
