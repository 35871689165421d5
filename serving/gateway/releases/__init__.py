"""The releases that the gateway answers from: opened aside, swapped whole, closed when nobody uses them."""
