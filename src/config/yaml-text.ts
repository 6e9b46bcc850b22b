import { LineCounter, isMap, isNode, isScalar, parseDocument, type Document, type YAMLError } from 'yaml'
import type { Path } from './problem.ts'

type Position = { line: number; column: number }

/** What a YAML text says, and where in it each value stands. */
export type YamlText = {
  value: unknown
  locate: (path: Path, at: 'key' | 'value') => Position
}

type YamlMistake = Position & { what: string }

/** More aliases than this to one anchor, nested, is an attack or an accident: ten lines can stand for gigabytes. */
const aliasesMax = 100

/** In our own words: those of the library quote the text, which may hold a key. */
const meanings: Partial<Record<YAMLError['code'], string>> = {
  BAD_ALIAS: 'this alias (*name) has no anchor (&name) before it',
  BAD_DQ_ESCAPE: 'a backslash sequence here is not known; use single quotes to take the text as it is',
  BAD_INDENT: 'the indentation does not fit the lines before it, or a bracket is not closed',
  BAD_SCALAR_START: 'a plain text cannot begin with this character; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'two "key: value" pairs on one line; put the text in quotes, or the second pair on a line of its own',
  BLOCK_IN_FLOW: 'an indented block cannot stand inside brackets',
  DUPLICATE_KEY: 'this key stands here for the second time in the same section',
  MISSING_CHAR: 'a closing quote, a bracket, a comma, or the space after a colon is missing',
  MULTILINE_IMPLICIT_KEY: 'a colon is missing after the name, or its value runs over several lines',
  MULTIPLE_DOCS: 'the file must hold one document, and "---" begins a second one',
  NON_STRING_KEY: 'a key must be a plain name',
  RESOURCE_EXHAUSTION: 'brackets are nested too deeply',
  TAB_AS_INDENT: 'a tab is used for indentation; use spaces',
  TAG_RESOLVE_FAILED: 'tags (!name) are not supported',
  UNEXPECTED_TOKEN: 'this does not fit what stands before it; check the indentation and the quotes',
} // prettier-ignore

function describe(error: YAMLError, lines: LineCounter): YamlMistake {
  const { line, col } = lines.linePos(error.pos[0])
  return {
    line,
    column: col,
    what: `is not valid YAML: ${meanings[error.code] ?? 'this cannot be read here'}`,
  }
}

function offsetOf(document: Document, path: Path, at: 'key' | 'value'): number | null {
  const last = path.at(-1)
  const parent: unknown = path.length === 0 ? null : document.getIn(path.slice(0, -1), true)
  if (at === 'key' && isMap(parent)) {
    const pair = parent.items.find(({ key }) => isScalar(key) && key.value === last)
    return isNode(pair?.key) ? (pair.key.range?.[0] ?? null) : null
  }
  const node: unknown = document.getIn(path, true)
  return isNode(node) ? (node.range?.[0] ?? null) : null
}

/** Reads one YAML document. Either it is understood, or every mistake in it is told with its place. */
export function parseYaml(text: string): { read: YamlText } | { mistakes: YamlMistake[] } {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'error',
    stringKeys: true,
    merge: true,
  })
  const errors = [...document.errors, ...document.warnings]
  if (errors.length > 0) {
    // After a broken structure the rest is misread; duplicates are each a mistake of their own.
    const duplicates = errors.filter(({ code }) => code === 'DUPLICATE_KEY')
    const told =
      duplicates.length > 0 && duplicates.length === errors.length ? duplicates : errors.slice(0, 1)
    return { mistakes: told.map((error) => describe(error, lines)) }
  }
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: aliasesMax })
  } catch (error) {
    const excessive = error instanceof Error && error.message.includes('Excessive')
    const what = excessive ? 'aliases (*name) stand for too much text' : (meanings.BAD_ALIAS ?? '')
    return { mistakes: [{ line: 1, column: 1, what: `is not valid YAML: ${what}` }] }
  }
  const locate = (path: Path, at: 'key' | 'value'): Position => {
    // A value that came by an alias or a merge has no place of its own: its nearest parent has.
    for (let length = path.length; length >= 0; length -= 1) {
      const offset = offsetOf(document, path.slice(0, length), length === path.length ? at : 'value')
      if (offset === null) continue
      const { line, col } = lines.linePos(offset)
      return { line, column: col }
    }
    return { line: 1, column: 1 }
  }
  return { read: { value, locate } }
}
