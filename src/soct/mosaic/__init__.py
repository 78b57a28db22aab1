"""Images side by side: matching, placement, rendering, blending."""
