"""What a run's latent actions hold, by linear probes."""
