interface Forms {
  one: string;
  other: string;
}

/** Chooses between the forms that a language has for one and for other numbers. */
export function plural(language: string): (count: number, forms: Forms) => string {
  const rules = new Intl.PluralRules(language);
  return (count, { one, other }) => (rules.select(count) === "one" ? one : other);
}
