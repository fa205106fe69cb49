/*
 * Parameters and results are shown as they were written: a number that JavaScript cannot hold keeps its digits.
 * Browsers that do not give a number's text yet (before 2025) show such numbers rounded.
 */
interface Exact {
  rawJSON?: (text: string) => unknown;
}
type Reviver = (key: string, value: unknown, context?: { source?: string }) => unknown;

const rawJSON = (JSON as Exact).rawJSON;

const exact: Reviver = (_key, value, context) =>
  typeof value === 'number' && rawJSON && context?.source !== undefined && String(value) !== context.source
    ? rawJSON(context.source)
    : value;

export function readJson(text: string): unknown {
  return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
}

export function writeJson(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? '';
}
