import type { Rule } from './knobs.ts'
import { parseYaml } from './yaml-text.ts'

/** Decimal only: `0x10` or an empty text is a slip of the hand, not a number. */
const decimal = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i

/**
 * A text of the environment or the command line as the value that `rule` expects. What cannot be read stays the
 * text that it is, for the check of the schema to refuse. Lists and mappings are written as YAML or JSON.
 */
export function readValue(text: string, rule: Rule): { value: unknown } | { mistake: string } {
  const trimmed = text.trim()
  switch (rule.type ?? 'string') {
    case 'integer':
    case 'number':
      return { value: decimal.test(trimmed) ? Number(trimmed) : text }
    case 'boolean':
      return { value: trimmed === 'true' ? true : trimmed === 'false' ? false : text }
    case 'array':
    case 'object': {
      const parsed = parseYaml(text)
      if ('read' in parsed) return { value: parsed.read.value }
      const first = parsed.mistakes[0]!
      return { mistake: `${first.what} (line ${first.line}, column ${first.column})` }
    }
    case 'string':
      return { value: text }
  }
}
