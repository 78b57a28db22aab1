"""What a run is asked to do: profiles, their layers, their checks, and the quantities that people write in them."""
