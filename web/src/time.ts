// Days and times in the user's time zone and language.

import { locale, texts } from "./texts";

/** The date as `2026-11-22`. */
export function today(date = new Date()): string {
  const two = (number: number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Today, yesterday, a weekday of the past week, else the date. */
export function nameOfDay(day: string, now = new Date()): string {
  const [year, month, date] = day.split("-").map(Number) as [number, number, number];
  const noon = new Date(year, month - 1, date, 12);
  const ago = Math.round(
    (new Date(now.getFullYear(), now.getMonth(), now.getDate(), 12).getTime() - noon.getTime()) /
      86_400_000,
  );
  if (ago <= 0) return texts.value.sidebar.today;
  if (ago === 1) return texts.value.sidebar.yesterday;
  const sameYear = year === now.getFullYear();
  return noon.toLocaleDateString(locale(), {
    ...(ago < 7 && { weekday: "long" }),
    day: "numeric",
    month: "long",
    ...(!sameYear && { year: "numeric" }),
  });
}

export function moment(iso: string): string {
  return new Date(iso).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" });
}
