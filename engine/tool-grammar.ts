import { strict as assert } from 'node:assert'
import { commonRules, literal } from './gbnf.ts'
import { GrammarWriter } from './schema.ts'

type Callable = { name: string; parameters: unknown; param: string }

/** A call of one of `tools`: `{"name": …, "arguments": …}`. */
export function writeToolGrammar(tools: readonly Callable[]): string {
  const { calls, rules } = writeCalls(tools)
  return [`root ::= ${calls.join(' | ')}`, ...rules, ...commonRules].join('\n')
}

/**
 * A free text, or calls of `tools`: a call alone, or calls behind `<tool_call>`. Arguments of a function that is not
 * strict are any object. A text cannot begin with `{`: such a reply is a call, or may be taken for one.
 */
export function writeOfferGrammar(tools: readonly (Callable & { strict: boolean })[]): string {
  const { calls, rules } = writeCalls(
    tools.map((tool) => (tool.strict ? tool : { ...tool, parameters: { type: 'object' } })),
  )
  return [
    'root ::= space* (call space* | begin)?',
    `call ::= ${calls.join(' | ')}`,
    'begin ::= [^<{ \\t\\n\\r] text0 | "<" text1',
    ...writeTagRules('<tool_call>', 'tagged'),
    'tagged ::= space* call space* "</tool_call>" space* ("<tool_call>" tagged)?',
    'space ::= [ \\t\\n\\r]',
    ...rules,
    ...commonRules,
  ].join('\n')
}

/** Rules `text0`, `text1`, …: any text in which `tag` is followed by `next`; the number says how much of it is there. */
function writeTagRules(tag: string, next: string): string[] {
  const letters = Array.from(tag)
  const [first] = letters as [string]
  assert(!letters.includes(first, 1), 'a tag whose beginning comes again would need more ways back')
  return letters.map((letter, i) => {
    const on = i + 1 === letters.length ? next : `text${i + 1}`
    if (i === 0) return `text0 ::= ([^${first}] text0 | "${first}" text1)?`
    return `text${i} ::= ([^${first}${letter}] text0 | "${first}" text1 | "${letter}" ${on})?`
  })
}

function writeCalls(tools: readonly Callable[]): { calls: string[]; rules: string[] } {
  const calls: string[] = []
  const rules: string[] = []
  for (const [i, tool] of tools.entries()) {
    const writer = new GrammarWriter(tool.parameters, tool.param, `t${i}-`)
    const found = writer.visit(tool.parameters, tool.param, [])
    rules.push(...writer.rules)
    calls.push(`"{\\"name\\":" ws ${literal(tool.name)} "," ws "\\"arguments\\":" ws ${found} "}"`)
  }
  return { calls, rules }
}
