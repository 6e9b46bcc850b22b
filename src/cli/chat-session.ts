import type { ListedModel } from './api-client.ts'

/** What a conversation is: everything that the next request needs. */
export type Session = {
  model: string
  system: string | null
  messages: readonly { role: 'user' | 'assistant'; content: string }[]
  temperature: number | null
  maxTokens: number | null
}

/** What a line of the person means: a command's result, or something to send. */
type Step =
  { kind: 'ask'; text: string } | { kind: 'go-on'; session: Session; say: string } | { kind: 'exit' }

const help = `/reset         forget what was said
/model NAME    talk to another model; without a name, list the models
/system TEXT   instructions for the model; without a text, remove them
/help          this list
/exit          end (also Ctrl-D); Ctrl-C stops an answer`

type Command = (session: Session, rest: string, models: readonly ListedModel[]) => Step

const goOn = (session: Session, say: string): Step => ({ kind: 'go-on', session, say })

const commands: Readonly<Record<string, Command>> = {
  '/help': (session) => goOn(session, help),
  '/exit': () => ({ kind: 'exit' }),
  '/quit': () => ({ kind: 'exit' }),
  '/reset': (session) => goOn({ ...session, messages: [] }, 'forgotten'),
  '/system': (session, rest) =>
    rest === ''
      ? goOn({ ...session, system: null }, 'no instructions any more')
      : goOn({ ...session, system: rest }, 'instructions set'),
  '/model': (session, rest, models) => {
    const names = models.map(({ id }) => id)
    if (rest === '') {
      return goOn(session, names.map((name) => `${name === session.model ? '*' : ' '} ${name}`).join('\n'))
    }
    if (names.length > 0 && !names.includes(rest)) {
      return goOn(session, `no model ${rest}; there are: ${names.join(', ')}`)
    }
    return goOn({ ...session, model: rest }, `now talking to ${rest}`)
  },
}

/** Reads one line. An empty one does nothing. */
export function readLine(line: string, session: Session, models: readonly ListedModel[]): Step {
  const text = line.trim()
  if (text === '') return goOn(session, '')
  if (!text.startsWith('/')) return { kind: 'ask', text }
  const [name = '', ...rest] = text.split(/\s+/)
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  return command
    ? command(session, rest.join(' '), models)
    : goOn(session, `unknown command ${name}; /help lists them`)
}

/** The request for an answer to `text`. */
export function makeRequest(session: Session, text: string): Record<string, unknown> {
  return {
    model: session.model,
    messages: [
      ...(session.system === null ? [] : [{ role: 'system', content: session.system }]),
      ...session.messages,
      { role: 'user', content: text },
    ],
    ...(session.temperature === null ? {} : { temperature: session.temperature }),
    ...(session.maxTokens === null ? {} : { max_tokens: session.maxTokens }),
  }
}

/** The conversation after an answer, be it cut short; an answer without a word leaves no trace. */
export function remember(session: Session, question: string, answer: string): Session {
  if (answer === '') return session
  const turn = [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ] as const
  return { ...session, messages: [...session.messages, ...turn] }
}
