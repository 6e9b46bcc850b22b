import type { Schema } from './schema-values.ts'

/** Texts of a format, and how long they are. */
export const formats: Record<string, { text: string; length: { min: number; max: number } }> = {
  date: { text: '"\\"" date "\\""', length: { min: 10, max: 10 } },
  time: { text: '"\\"" time "\\""', length: { min: 9, max: 21 } },
  'date-time': { text: '"\\"" date "T" time "\\""', length: { min: 20, max: 32 } },
  uuid: { text: '"\\"" uuid "\\""', length: { min: 36, max: 36 } },
}

/** Keywords that say something about a value, but forbid nothing. */
export const annotations = new Set([
  ...['title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$schema', '$id', '$comment', '$defs', 'definitions'],
])
/** Keywords that a grammar can keep to, by the type they belong to. */
export const keywordsOf: Record<string, readonly string[]> = {
  string: ['minLength', 'maxLength', 'format'],
  array: ['items', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties'],
  integer: [],
  number: [],
  boolean: [],
  null: [],
}
export const allKeywords = Object.values(keywordsOf).flat()

/** The type whose keywords a schema without `type` uses: a reply of that type is certainly meant. */
export function guessTypes(schema: Schema): string[] {
  for (const [name, keywords] of Object.entries(keywordsOf)) {
    if (keywords.some((keyword) => schema[keyword] !== undefined)) return [name]
  }
  return ['value']
}
