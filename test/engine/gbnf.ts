/** Whether a GBNF grammar lets a whole text through: a small reader of the notation, apart from llama.cpp's. */
export function accepts(grammar: string, text: string): boolean {
  const rules = new Map(
    grammar.split('\n').map((line) => {
      const [name, body] = line.split(/ ::= (.*)/s) as [string, string]
      return [name, parse(body)] as const
    }),
  )
  return match({ kind: 'rule', name: 'root' }, Array.from(text), 0, rules).has(Array.from(text).length)
}

type Node =
  | { kind: 'text'; text: string[] }
  | { kind: 'class'; has: (character: string) => boolean }
  | { kind: 'rule'; name: string }
  | { kind: 'sequence'; items: Node[] }
  | { kind: 'choice'; items: Node[] }
  | { kind: 'repeat'; item: Node; min: number; max: number }

function parse(source: string): Node {
  let rest = source
  const take = (pattern: RegExp): RegExpExecArray | null => {
    const found = new RegExp(`^(?:${pattern.source})\\s*`, 's').exec(rest)
    if (found) rest = rest.slice(found[0].length)
    return found
  }
  const choice = (): Node => {
    const items = [sequence()]
    while (take(/\|/)) items.push(sequence())
    return { kind: 'choice', items }
  }
  const sequence = (): Node => {
    const items: Node[] = []
    while (rest !== '' && !/^[|)]/.test(rest)) items.push(repeated(one()))
    return { kind: 'sequence', items }
  }
  const one = (): Node => {
    if (take(/\(/)) {
      const inner = choice()
      if (!take(/\)/)) throw new Error(`no bracket closes before ${rest}`)
      return inner
    }
    const quoted = take(/"((?:[^"\\]|\\.)*)"/)
    if (quoted) return { kind: 'text', text: Array.from(unescape(quoted[1] as string)) }
    const listed = take(/\[(\^?)((?:[^\]\\]|\\.)*)\]/)
    if (listed) {
      const pattern = new RegExp(`^[${(listed[2] as string).replaceAll('[', '\\[')}]$`, 'u')
      return { kind: 'class', has: (character) => pattern.test(character) !== (listed[1] === '^') }
    }
    const name = take(/([\w-]+)/)
    if (!name) throw new Error(`cannot read ${rest}`)
    return { kind: 'rule', name: name[1] as string }
  }
  const repeated = (item: Node): Node => {
    const mark = take(/([*+?])|\{(\d+)(,?)(\d*)\}/)
    if (!mark) return item
    const [, sign, low, comma, high] = mark
    if (sign) return { kind: 'repeat', item, min: sign === '+' ? 1 : 0, max: sign === '?' ? 1 : Infinity }
    const max = comma === '' ? Number(low) : high === '' ? Infinity : Number(high)
    return repeated({ kind: 'repeat', item, min: Number(low), max })
  }
  return choice()
}

function unescape(text: string): string {
  return text.replaceAll(/\\(.)/g, '$1')
}

/** Where a match that begins at `from` may end. */
function match(node: Node, text: string[], from: number, rules: ReadonlyMap<string, Node>): Set<number> {
  const after = (item: Node, starts: Iterable<number>) =>
    new Set([...starts].flatMap((start) => [...match(item, text, start, rules)]))
  if (node.kind === 'text') {
    return node.text.every((character, i) => text[from + i] === character)
      ? new Set([from + node.text.length])
      : new Set()
  }
  if (node.kind === 'class') {
    const character = text[from]
    return character !== undefined && node.has(character) ? new Set([from + 1]) : new Set()
  }
  if (node.kind === 'rule') {
    const rule = rules.get(node.name)
    if (!rule) throw new Error(`no rule ${node.name}`)
    return match(rule, text, from, rules)
  }
  if (node.kind === 'choice') return new Set(node.items.flatMap((item) => [...after(item, [from])]))
  if (node.kind === 'sequence') {
    return node.items.reduce((starts, item) => after(item, starts), new Set([from]))
  }
  const ends = new Set<number>(node.min === 0 ? [from] : [])
  let starts = new Set([from])
  for (let count = 1; count <= node.max && starts.size > 0; count += 1) {
    const next = after(node.item, starts)
    if ([...next].every((end) => ends.has(end))) break
    if (count >= node.min) for (const end of next) ends.add(end)
    starts = next
  }
  return ends
}
