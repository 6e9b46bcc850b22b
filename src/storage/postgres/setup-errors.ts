import { SetupError } from '../../core/errors.ts'
import { readCode } from './failures.ts'

/** What went wrong while the store was opened, as one message with the way out. The password is in none of them. */
export function explainSetup(error: unknown, url: string): SetupError {
  if (error instanceof SetupError) return error
  const place = describePlace(url)
  const text = error instanceof Error ? error.message : String(error)
  const setup = (message: string) => new SetupError(`PostgreSQL (${place.text}): ${message}`)
  switch (readCode(error)) {
    case '3D000':
      return setup(`the database \`${place.database}\` does not exist. Create it: createdb ${place.database}`)
    case '28P01':
    case '28000':
      return setup(`${text}. Check the user in \`storage.url\` and the password there or in PGPASSWORD.`)
    case '42501':
      return setup(
        `${text}. The user needs the right to create the schema \`autoglm\` (GRANT CREATE ON DATABASE ${place.database} TO ${place.user}), or all rights on it where it exists.`,
      )
    case '53300':
      return setup(`${text}. Raise max_connections of the server or lower \`storage.connectionsMax\`.`)
    case null:
      return explainSocket(error, text, setup)
    default:
      return setup(`${text}.`)
  }
}

function explainSocket(error: unknown, text: string, setup: (message: string) => SetupError): SetupError {
  // Several addresses of one name fail together, with an empty message.
  const cause = error instanceof AggregateError ? (error.errors[0] as unknown) : error
  const code = (cause as { code?: unknown } | null)?.code
  if (code === 'ECONNREFUSED')
    return setup('nothing listens there. Start the server, or correct `storage.url`.')
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return setup('the host name is unknown. Correct `storage.url`.')
  if (code === 'ENOENT') return setup('there is no such socket. Start the server, or correct `storage.url`.')
  if (/password must be a string/.test(text))
    return setup('the server asks for a password. Give it in PGPASSWORD or in `storage.url`.')
  if (/URI|URL/.test(text) && error instanceof TypeError)
    return setup(
      'the URL can not be read. It is written postgres://user@host:5432/database; special characters of a password are percent-encoded, or it is given in PGPASSWORD.',
    )
  return setup(`no connection: ${text}. Check that the server runs and \`storage.url\` is right.`)
}

/** Where the URL leads, without its password; also of a URL that can't be read. */
function describePlace(url: string): { text: string; database: string; user: string } {
  try {
    const parsed = new URL(url)
    const database = decodeURIComponent(parsed.pathname.slice(1)) || 'postgres'
    const host = parsed.host || (parsed.searchParams.get('host') ?? 'the local socket')
    return { text: `${host}/${database}`, database, user: decodeURIComponent(parsed.username) || 'the user' }
  } catch {
    return { text: 'storage.url', database: 'the database', user: 'the user' }
  }
}
