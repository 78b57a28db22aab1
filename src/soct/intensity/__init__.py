"""The physics of brightness: illumination, axial profile, attenuation, normalisation."""
