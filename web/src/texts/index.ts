// The texts of the interface, one file per language.

import { signal } from "@preact/signals";
import { en } from "./en";

export type Texts = typeof en;

/** The texts in the language that is shown. */
export const texts = signal<Texts>(en);
