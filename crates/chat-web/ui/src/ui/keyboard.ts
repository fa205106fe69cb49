/**
 * Whether a key belongs to the composition of a character by an input method, as for Chinese,
 * Japanese and Korean. Safari marks the key that ends a composition by the key code 229 alone.
 */
export const isComposing = (event: KeyboardEvent) => event.isComposing || event.keyCode === 229;

/** Whether the device has a touch screen and no mouse, and so no Shift key for a new line. */
export const isTouchDevice = () => matchMedia("(pointer: coarse)").matches;
