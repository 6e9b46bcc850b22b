/** How this program is called here: through npm in a checkout, by its name when installed. */
export const commandName = import.meta.url.endsWith('.ts') ? 'npm run -s autoglm --' : 'autoglm'
