"""The hub: owns the generator, admits feedback, decides when to step."""
