/** The file where none is named, in the working directory; Convey's, for those who come from there. */
export const DEFAULT_FILES = ['lb4.toml', 'config.toml'] as const;
