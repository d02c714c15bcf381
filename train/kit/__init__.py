"""A kit that trains both networks on one rented GPU without a network, in calls of a few minutes each."""
