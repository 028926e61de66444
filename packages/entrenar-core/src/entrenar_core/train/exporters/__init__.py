"""What carries a training's spans, figures and notices to programs that show them."""
