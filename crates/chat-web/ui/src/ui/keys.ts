/**
 * Whether a key belongs to the composition of a character, as with input methods for Chinese, Japanese and Korean. Safari says so
 * by the key code 229 alone when the key ends the composition.
 */
export const composing = (event: KeyboardEvent) => event.isComposing || event.keyCode === 229;

/** Whether the device has a touch screen and no mouse: there is no Shift key to make a new line with. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches;
