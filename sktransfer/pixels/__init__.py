"""Images and masks pixel by pixel: masks as users pass them, tiles of large images, grids of stages."""
