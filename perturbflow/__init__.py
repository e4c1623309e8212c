"""How adversarial perturbations travel through networks, layer by layer; docs/map.md tells where everything stands."""
