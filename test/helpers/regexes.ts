import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export type FoundRegex = { file: string; line: number; regex: RegExp }

const root = join(import.meta.dirname, '../..')

/** Every regular expression that is written in the source, by file and line. */
export function listRegexes(folders: readonly string[]): FoundRegex[] {
  const files = folders.flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: root }))
  return files.flatMap((file) =>
    scan(readFileSync(join(root, file), 'utf8')).map((found) => ({ file, ...found })),
  )
}

/** Comments, strings and regular expressions; whatever else there is does not matter. Templates may hold others. */
const tokens =
  /\/\/[^\n]*|\/\*[^]*?\*\/|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|(?<=[(,=:[!&|?{};\n]\s*|return\s+|=>\s*)\/(?![*/])((?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/([dgimsuvy]*)/g

function scan(text: string): { line: number; regex: RegExp }[] {
  return [...text.matchAll(tokens)].flatMap(({ 1: source, 2: flags, index }) => {
    if (source === undefined) return []
    try {
      return [{ line: text.slice(0, index).split('\n').length, regex: new RegExp(source, flags) }]
    } catch {
      // A part of a path in a template.
      return []
    }
  })
}
