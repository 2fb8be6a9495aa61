/**
 * Whether a key belongs to an input method that is composing. Safari ends the composition before
 * the keydown of its Enter, and marks that key by its code only.
 */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}
