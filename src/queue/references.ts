import { fail, type ApiError } from '../core/errors.ts'
import type { StepWork } from './task.ts'

/**
 * `{{steps.NAME.PATH}}` in the strings of a step's body stands for a part of an earlier step's result, where PATH is
 * like `choices[0].message.content`. A string that is nothing but one reference becomes the value with its type;
 * inside other text the value is written as text, and as JSON where it is an object or an array.
 */
const referencePattern = /\{\{\s*steps\.([A-Za-z_][\w-]*)((?:\.[A-Za-z_$][\w$-]*|\[\d{1,9}\])*)\s*\}\}/g
const wholePattern = new RegExp(`^${referencePattern.source}$`)
/** What is meant as a reference, well written or not. */
const intendedPattern = /\{\{\s*steps\b/g

export const isWholeReference = (value: unknown): boolean =>
  typeof value === 'string' && wholePattern.test(value)

export const hasReference = (body: unknown): boolean => findStrings(body).some((text) => text.includes('{{'))

/** Finds what can't work before anything runs: a step that is not there or comes later, a path that is none. */
export function checkReferences(steps: readonly StepWork[]): void {
  const names = steps.map(({ name }) => name)
  steps.forEach(({ body }, index) => {
    const param = `steps[${index}].body`
    for (const text of findStrings(body)) {
      const found = [...text.matchAll(referencePattern)]
      if (found.length !== (text.match(intendedPattern) ?? []).length) throw malformed(text, param)
      for (const [written, name] of found) checkName(written, names.indexOf(name as string), index, param)
    }
  })
}

function checkName(written: string, place: number, index: number, param: string): void {
  if (place >= 0 && place < index) return
  const problem =
    place === -1
      ? 'there is no step of this name'
      : place === index
        ? 'that is the step itself'
        : 'that step comes later'
  throw fail('invalid_request', { message: `\`${param}\` refers to ${written}: ${problem}.`, param })
}

function malformed(text: string, param: string): ApiError {
  const start = text.search(intendedPattern)
  return fail('invalid_request', {
    message:
      `\`${param}\` has a reference that can't be read: ${JSON.stringify(text.slice(start, start + 100))}; ` +
      'it must be like {{steps.NAME.choices[0].message.content}}.',
    param,
  })
}

/** The body with every reference replaced. Throws invalid_request for a path that leads nowhere. */
export function resolveReferences<T>(
  body: T,
  results: ReadonlyMap<string, unknown>,
  limits: { charsMax: number },
): T {
  let charsLeft = limits.charsMax

  function resolve(value: unknown): unknown {
    if (typeof value === 'string') return resolveText(value)
    if (Array.isArray(value)) return value.map(resolve)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item)]))
  }

  function resolveText(text: string): unknown {
    const whole = wholePattern.exec(text)
    if (whole) {
      const value = lookUp(results, whole[0], whole[1] as string, whole[2] as string)
      spend(value)
      return value
    }
    return text.replaceAll(referencePattern, (written: string, name: string, path: string) => {
      const value = lookUp(results, written, name, path)
      if (value === null) throw unresolved(written, 'it is null, which is no text')
      return spend(value)
    })
  }

  /** A step that repeats a long answer many times must not fill the memory. */
  function spend(value: unknown): string {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    charsLeft -= text.length
    if (charsLeft >= 0) return text
    throw fail('invalid_request', {
      message: `The results put into this step are longer than ${limits.charsMax} characters.`,
    })
  }

  return resolve(body) as T
}

function lookUp(results: ReadonlyMap<string, unknown>, written: string, name: string, path: string): unknown {
  if (!results.has(name)) throw unresolved(written, 'there is no result of this name')
  let value = results.get(name)
  let walked = name
  for (const [part, key, place] of path.matchAll(/\.([\w$-]+)|\[(\d+)\]/g)) {
    const at = key ?? place ?? ''
    const isThere =
      typeof value === 'object' &&
      value !== null &&
      (key === undefined) === Array.isArray(value) &&
      Object.hasOwn(value, at)
    if (!isThere) throw unresolved(written, `the result has nothing at ${walked}${part}`)
    value = (value as Record<string, unknown>)[at]
    walked += part
  }
  return value
}

const unresolved = (written: string, problem: string): ApiError =>
  fail('invalid_request', { message: `${written} can't be replaced: ${problem}.` })

function findStrings(value: unknown, found: string[] = []): string[] {
  if (typeof value === 'string') found.push(value)
  else if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) findStrings(item, found)
  }
  return found
}
