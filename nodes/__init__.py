"""The node: owns a private shard and a discriminator, answers tasks with feedback."""
